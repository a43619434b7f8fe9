"""Runs of `make bench` by commit: what is slower than before is named."""

import pytest
from history import read, run_of, slower, table, with_run, write
from rows import Row

ROWS = {
    "P1": Row("P1", "a start, s"),
    "P1 instructions": Row("P1 instructions", "imports, million", digits=1),
    "P13": Row("P13", "restarts, %", is_share=True),
}


def run(commit, **figures):
    return {"commit": commit, "date": "2026-11-27 08:00 UTC", "figures": figures}


@pytest.mark.parametrize(
    ("then", "now", "late"),
    [
        ({"elrun": 0.1, "torchrun": 1.0}, {"elrun": 0.1, "torchrun": 1.0}, {}),
        ({"elrun": 0.1, "torchrun": 1.0}, {"elrun": 0.4, "torchrun": 4.0}, {}),
        ({"elrun": 0.1, "torchrun": 1.0}, {"elrun": 0.2, "torchrun": 1.0}, {"P1": 2.0}),
        ({"elrun": 0.1, "torchrun": 2.0}, {"elrun": 0.1, "torchrun": 1.0}, {"P1": 2.0}),
        ({"elrun": 0.1}, {"elrun": 0.3, "torchrun": 1.0}, {"P1": 3.0}),
        ({"torchrun": 1.0}, {"elrun": 0.3, "torchrun": 1.0}, {}),
        ({"elrun": 0.1}, {}, {}),
    ],
)
def test_a_row_is_compared_in_torchrun_s_time_where_there_is_one(then, now, late):
    """A machine that is four times slower makes no commit slow."""
    found = slower(ROWS, run("a", P1=then), run("b", P1=now))

    assert late == {key: pytest.approx(times) for key, times in found.items()}


def test_counts_stand_for_themselves_and_shares_are_not_compared():
    """Instructions are the same on each machine; of a share more is better."""
    then = run("a", **{"P1 instructions": {"elrun": 100.0}, "P13": {"elrun": 50.0}})
    now = run("b", **{"P1 instructions": {"elrun": 130.0}, "P13": {"elrun": 100.0}})

    assert {"P1 instructions": 1.3} == slower(ROWS, then, now)


def test_the_table_has_a_column_for_each_run_and_names_what_is_slower():
    """The last run is compared with the one before."""
    runs = [run("a", P1={"elrun": 0.1}), run("b", P1={"elrun": 0.2}, P13={"elrun": 100.0})]

    assert [
        "| # | a, 2026-11-27 | b, 2026-11-27 | |",
        "|---|---:|---:|---|",
        "| P1 | 0.100 | 0.200 | **2.0 times slower** |",
        "| P13 |  | 100.000 |  |",
    ] == table(ROWS, runs).splitlines()


def test_a_run_is_kept_once(tmp_path):
    """Its typical figures, without those that failed; publishing twice adds one column."""
    samples = {"P1": {"elrun": [0.3, 0.1, 0.1], "torchrun": ["not in 9 s"]}, "gone": {}}
    machine = {"commit": "a", "date": "2026-11-27 08:00 UTC", "cpus": 2}
    kept = run_of({"machine": machine, "samples": samples}, ROWS)
    path = tmp_path / "runs.json"

    write(with_run(with_run(read(path), kept), kept), path)

    assert [run("a", P1={"elrun": 0.1})] == read(path)
