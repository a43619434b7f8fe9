"""Which run is meant: by a path, by its name, or the latest one."""

import os

import pytest
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.report.choice import chosen_records
from run_kit import START, attempt, moment, report, written


@pytest.fixture(name="runs")
def _runs(tmp_path):
    """Three runs, of which the second had two nodes; the latest one comes last."""
    later = {"began_at": moment(START + 1_000), "ended_at": moment(START + 1_100)}
    made = [
        ("a_n0_1.run", report(run_id="alpha")),
        ("b_n0_2.run", report(run_id="beta", attempts=[attempt(0, 5, group_rank=1)])),
        ("b_n1_3.run", report(run_id="beta", node="n1", attempts=[attempt(0, 5)])),
        ("b_n0_4.run", report(run_id="beta", **later)),
        ("c_n0_5.run", report(run_id="gamma")),
    ]
    for number, (name, each) in enumerate(made):
        path = written(tmp_path / "runs" / name, each) / "report.json"
        os.utime(path, (START + number, START + number))
    return tmp_path / "runs", {"ELRUN_RUN_DIR": str(tmp_path / "runs")}


def names_of(records):
    return [os.path.basename(os.path.dirname(each.path)) for each in records]


def test_without_a_name_it_is_the_latest(runs):
    """By the time of the last change."""
    assert ["c_n0_5.run"] == names_of(chosen_records([], runs[1]))


def test_a_name_means_the_latest_run_of_that_name(runs):
    """An earlier one is another run."""
    assert ["b_n0_4.run"] == names_of(chosen_records(["beta"], runs[1]))


def test_nodes_that_share_the_folder_are_one_run(runs):
    """In the order of their group ranks."""
    os.utime(runs[0] / "b_n0_2.run" / "report.json", (START + 9, START + 9))

    assert ["b_n1_3.run", "b_n0_2.run"] == names_of(chosen_records(["beta"], runs[1]))


def test_a_folder_s_name_means_that_one(runs):
    """As `ls` shows it."""
    assert ["b_n0_2.run"] == names_of(chosen_records(["b_n0_2.run"], runs[1]))


@pytest.mark.parametrize("name", ["alph", "50"])
def test_a_beginning_or_a_process_id_will_do(runs, name):
    """As for the other verbs; the latest of several is meant."""
    found = names_of(chosen_records([name], runs[1]))

    assert (["a_n0_1.run"] if name == "alph" else ["c_n0_5.run"]) == found


def test_paths_of_several_nodes_become_one(runs):
    """Each once."""
    paths = [str(runs[0] / name) for name in ("b_n0_2.run", "b_n1_3.run", "b_n1_3.run")]

    assert ["b_n1_3.run", "b_n0_2.run"] == names_of(chosen_records(paths, {}))


@pytest.mark.parametrize(
    ("names", "variables", "words"),
    [
        (["alpa"], None, "no run alpa is kept; did you mean alpha?; there are gamma, beta, alpha"),
        ([], {"ELRUN_RUN_DIR": "/dev/null"}, "no runs are kept: ELRUN_RUN_DIR is /dev/null"),
        ([], {"ELRUN_RUN_DIR": "/none/there"}, "no run is kept in /none/there; give the path"),
    ],
)
def test_what_is_not_there_is_named(runs, names, variables, words):
    """With what there is."""
    with pytest.raises(Refusal) as refused:
        chosen_records(names, runs[1] if variables is None else variables)

    assert str(refused.value).startswith(words)


def test_what_is_no_run_does_not_hide_the_others(runs):
    """A folder with a broken report, and one without."""
    (runs[0] / "z.run").mkdir()
    (runs[0] / "y.run").mkdir()
    (runs[0] / "y.run" / "report.json").write_text("{")

    assert ["c_n0_5.run"] == names_of(chosen_records([], runs[1]))
