"""From samples to the tables of `make bench`."""

import re

import pytest
from bench import chosen, left_out
from cases import CASES, ROWS
from publish import FRONT_PAGE, PAGE, front_table, replaced
from report import cell, line_of, rounds_table
from rows import FULL, QUICK, Limit, Row

ROW = Row("P1", "an empty script, s", "20 times faster", digits=2)
SHARE = Row("P13", "restarts, %", "100", digits=0, is_share=True)


def test_a_row_shows_medians_and_how_many_times_longer_torchrun_takes():
    """The middle run stands for all, so that one that was disturbed changes nothing."""
    line = line_of(ROW, {"elrun": [0.1, 9.0, 0.1], "torchrun": [1.5, 1.6, 1.7], "floor": [0.05]})

    assert "| P1 | an empty script, s | 0.10 | 1.60 | 0.05 |  |  | 16.0 | 20 times faster |" == line


def test_shares_are_averaged_and_have_no_ratio():
    """Four runs of five that succeed are 80 %, of which a median would make 100."""
    line = line_of(SHARE, {"elrun": [100.0], "torchrun": [100.0, 100.0, 100.0, 100.0, 0.0]})

    assert "| P13 | restarts, % | 100 | 80 |  |  |  |  | 100 |" == line


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ([], ""),
        ([1234.5], "1,234.50"),
        (["not in 25 s"], "not in 25 s"),
        (["not in 25 s"] * 2, "(2 of 2: not in 25 s)"),
        ([1.0, "exit code 1", 3.0], "2.00 (1 of 3: exit code 1)"),
        (["exit code 1", "not in 9 s"], "(1 of 2: exit code 1, 1 of 2: not in 9 s)"),
        ([0.0], "0.00"),
    ],
)
def test_a_failure_is_shown_with_its_reason(figures, shown):
    """It is never left out of the count, nor counted as a figure."""
    assert shown == cell(ROW, figures)


def test_a_launcher_that_always_fails_has_no_ratio():
    """There is nothing to divide."""
    line = line_of(ROW, {"elrun": [0.1], "torchrun": ["not in 25 s"]})

    assert "| P1 | an empty script, s | 0.10 | not in 25 s |  |  |  |  | 20 times faster |" == line


def test_rounds_have_a_line_for_each_size_and_what_they_cost_below():
    """In the order of numbers, whatever the order of the samples."""
    rows = {
        f"{words} {size}{part}": Row(f"{words} {size}{part}", "", digits=1)
        for words in ("P6", "P6 etcd-v3")
        for size in (64, 1024)
        for part in ("", " operations", " bytes")
    }
    samples = {
        "P6 1024": {"elrun": [0.9]},
        "P6 etcd-v3 1024": {"elrun": ["not in 60 s"]},
        "P6 1024 operations": {"elrun": [5.0]},
        "P6 64": {"elrun": [0.1], "torchrun": [2.2]},
        "P6 64 operations": {"elrun": [5.0], "torchrun": [9.6]},
        "P6 64 bytes": {"elrun": [1378.0], "torchrun": [86772.0]},
    }

    seconds, costs = rounds_table(rows, samples).split("\n\n")

    assert ["| 64 |  | 0.1 |  | 2.2 |", "| 1,024 |  | 0.9 | not in 60 s |  |"] == (
        seconds.splitlines()[2:]
    )
    assert "| 64 | 5.0 |  | 9.6 | 1,378.0 |  | 86,772.0 |" == costs.splitlines()[2]


def test_no_rounds_no_table():
    """A run of other rows prints none."""
    assert "" == rounds_table({}, {"P1": {"elrun": [0.1]}})


def test_a_quick_run_keeps_its_own_limit():
    """What takes a minute is in the full run only, and more runs may not be asked for than that."""
    limit = Limit(full=1, quick=0)

    assert (1, 0) == (limit.of(FULL), limit.of(QUICK))


def test_what_stands_between_markers_is_replaced_and_nothing_else():
    """Twice the same figures make the same page."""
    page = "a\n<!-- figures -->\n\nold\n\n<!-- end of figures -->\nb\n"
    new = "a\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nb\n"

    assert new == replaced(page, {"figures": "new"})
    assert new == replaced(new, {"figures": "new"})


def test_figures_without_a_place_on_the_page_are_refused():
    """A marker that somebody has removed would leave old figures standing."""
    with pytest.raises(ValueError, match="0 pairs of markers for 'figures'"):
        replaced("a page\n", {"figures": "new"})


def test_every_goal_has_its_row_and_every_row_a_name_of_its_own():
    """P1 to P18 are promised; two rows of one name would share their samples."""
    assert {f"P{number}" for number in range(1, 19)} <= {key.split()[0] for key in ROWS}
    assert len(ROWS) == sum(len(case.rows) for case in CASES)


def test_what_a_quick_run_leaves_out_is_named():
    """A missing row must not read as a row that was never meant to be."""
    assert [] == left_out(CASES, FULL)
    assert {"P8 (torchrun)", "P13 (torchrun)"} <= set(left_out(CASES, QUICK))


def test_the_page_has_a_place_for_each_part():
    """Publishing is done last, when nobody has time for a marker that is gone."""
    page = PAGE.read_text()

    assert page.startswith("# Speed")
    assert "new" in replaced(FRONT_PAGE.read_text(), {"figures": "new"})
    assert "new" in replaced(page, dict.fromkeys(("machine", "figures", "rounds", "runs"), "new"))


def test_the_readme_has_figures_of_the_run_that_the_page_shows():
    """Those that a person writes are forgotten at the next run."""
    page = PAGE.read_text()
    shown = part(FRONT_PAGE.read_text(), "figures")
    table = [line.split(" | ") for line in part(page, "figures").splitlines()]
    elrun, torchrun = (table[0].index(name) for name in ("elrun", "torchrun"))
    cells = {line[0].removeprefix("| "): (line[torchrun], line[elrun]) for line in table[2:]}

    for key in ("P1", "P3", "P5 RSS", "P13", "P8"):
        assert all(cell in line_with(f"| {key.split()[0]} |", shown) for cell in cells[key])
    assert f"on {re.search('Run of ([0-9-]+)', page)[1]}, on" in shown


def test_the_readme_s_table_is_made_of_samples():
    """With units behind figures; a failure is words."""
    keys = ("P1", "P3", "P5 RSS", "P13", "P8")
    launchers = ("elrun", "torchrun", "preloaded")
    samples = {key: {name: [2.0] for name in launchers} for key in keys}
    samples["P8"]["torchrun"] = ["not in 25 s"]
    machine = {"date": "2026-11-27 20:45 UTC", "torch": "2.14.1+cpu", "cpus": 2}

    table = front_table(samples, machine)

    assert table.startswith("| | torchrun 2.14 | elrun |")
    assert "| 2.00 s | 2.00 s; 2.00 s with `--preload torch` | P3 |" in line_with("| P3 |", table)
    assert "| not in 25 s | 2.00 s | P8 |" in line_with("| P8 |", table)
    assert "figures on 2026-11-27, on 2 cores" in table


def test_the_text_around_the_tables_speaks_of_no_single_run():
    """Publishing writes the tables anew, and leaves the text."""
    text = re.sub("<!-- (.*?) -->.*<!-- end of .*? -->", "", PAGE.read_text(), flags=re.DOTALL)

    assert [] == re.findall(r"run above|today's|\| now \|", text)


def part(page, name):
    """Return what stands between two markers."""
    return page.partition(f"<!-- {name} -->\n\n")[2].partition(f"\n\n<!-- end of {name} -->")[0]


def line_with(end, table):
    """Return the line that ends so."""
    (line,) = (line for line in table.splitlines() if line.endswith(end))
    return line


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["P4"], ["P4"]),
        (["P13 waiting"], ["P13 waiting"]),
        (["P3"], ["P3", "P3 early"]),
        (["P9"], ["P5 RSS"]),
    ],
)
def test_rows_are_chosen_by_their_names(names, keys):
    """By the whole name or its first word; what one case measures comes together."""
    assert keys == [case.rows[0].key for case in chosen(names)]


def test_a_name_of_no_row_is_refused():
    """A table without a row reads as if nothing had been wrong."""
    with pytest.raises(ValueError, match="no row is called P99; there are P1, "):
        chosen(["P1", "P99"])
