"""Which run is meant: by a path, by its name, or the latest one."""

import contextlib
import fcntl
import json
import os

import pytest
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.report.choice import choose_job, chosen_records
from elrun.launcher.report.refusal import NOTHING_THERE, UNCLEAR, VerbRefusal
from elrun.launcher.report.story import story_of
from elrun.launcher.verbs.front import run_verb
from elrun.launcher.verbs.view import logs_of_ranks, overview_of_ended
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


@pytest.mark.parametrize("name", ["alph", "c_n0_5.run", "nothing"])
def test_a_deleted_working_directory_hides_no_run(runs, tmp_path, monkeypatch, name):
    """It has no path, so no script is meant by a relative one."""
    (tmp_path / "deleted").mkdir()
    monkeypatch.chdir(tmp_path / "deleted")
    (tmp_path / "deleted").rmdir()

    found = VerbRefusal if name == "nothing" else None
    with pytest.raises(found) if found else contextlib.nullcontext():
        assert 1 == len(chosen_records([name], runs[1]))


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


@pytest.mark.parametrize("by", ["path", "file", "name"])
def test_a_killed_agent_s_ranks_are_told_by_their_log_files(runs, tmp_path, by):
    """Its report says that they run; the file that was written to last has the last line."""
    folder, logs = runs[0] / "d_n0_6.run", tmp_path / "logs" / "attempt_0"
    paths = {}
    for rank in (0, 1):
        (logs / str(rank)).mkdir(parents=True)
        for name, text in (("stderr", "warned\n"), ("stdout", f"step 1\nstep {rank}7\n")):
            paths[rank, name] = logs / str(rank) / f"{name}.log"
            paths[rank, name].write_text(text)
            os.utime(paths[rank, name], (START, START + (name == "stdout")))
    attempts = [attempt(0)]
    written(folder, report(run_id="delta", state="running", ended_at=None, attempts=attempts))
    ranks = [{"rank": n, "stdout": str(paths[n, "stdout"]), "stderr": None} for n in (0, 1)]
    run = {"run_id": "delta", "agent_pid": 50, "attempts": [{"ranks": ranks}]}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "control").symlink_to("/nowhere")  # a socket that was not removed

    name = {"path": folder, "file": folder / "report.json", "name": "delta"}[by]
    (record,) = chosen_records([str(name)], runs[1])

    assert "killed" == record.report["state"]
    assert [("killed with its agent", "step 07"), ("killed with its agent", "step 17")] == [
        (each["state"], each["words"]) for each in record.report["ranks"]
    ]


def test_a_log_file_that_can_have_no_such_path_is_left_out(runs):
    """A record may be a copy that somebody has changed."""
    folder, path = runs[0] / "d_n0_6.run", "/tmp/attempt_0/0\0/stderr.log"
    attempts = [attempt(0)]
    written(folder, report(run_id="delta", state="running", ended_at=None, attempts=attempts))
    ranks = [{"rank": 0, "stdout": path, "stderr": path}]
    (folder / "run.json").write_text(
        json.dumps({"run_id": "delta", "attempts": [{"ranks": ranks}]})
    )
    (folder / "control").symlink_to("/nowhere")

    (record,) = chosen_records(["delta"], runs[1])
    overview = overview_of_ended(
        story_of([record]), logs_of_ranks(choose_job(runs[1], "delta", "x"))
    )

    assert ["", ""] == [each["words"] for each in record.report["ranks"]]
    assert [None, None] == [each.last_line or None for each in overview.ranks]


ALL = "gamma (train.py, agent 50); beta (train.py, agent 50); beta (train.py, agent 50)"
NO_ALPA = f"there is no run 'alpa' of yours on this host; did you mean alpha?; {{}}; ended: {ALL}"


@pytest.mark.parametrize(
    ("names", "variables", "words"),
    [
        (["alpa"], None, NO_ALPA.format("none of yours runs here")),
        ([], {"ELRUN_RUN_DIR": "/dev/null"}, "no runs are kept: ELRUN_RUN_DIR is /dev/null"),
        ([], {"ELRUN_RUN_DIR": "/none/there"}, "no run of yours is kept in /none/there; give the"),
    ],
)
def test_what_is_not_there_is_named(runs, names, variables, words):
    """With what there is."""
    with pytest.raises(VerbRefusal) as refused:
        chosen_records(names, runs[1] if variables is None else variables)

    assert NOTHING_THERE == refused.value.exit_code
    assert str(refused.value).startswith(words)


@contextlib.contextmanager
def living(*folders):
    """Lock the folders of runs, as their agents do."""
    with contextlib.ExitStack() as locks:
        for folder in folders:
            fd = os.open(folder, os.O_RDONLY)
            locks.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def folders_of(jobs):
    return [os.path.basename(run.folder) for run in jobs]


def test_the_only_job_that_runs_is_meant(runs):
    """Whatever has ended later; all verbs but `report` need no name then."""
    with living(runs[0] / "b_n0_2.run"):
        assert ["b_n0_2.run"] == folders_of(choose_job(runs[1], None, "status"))
        assert ["b_n0_2.run"] == folders_of(choose_job(runs[1], "beta", "status"))
        assert ["b_n0_2.run"] == folders_of(choose_job(runs[1], "bet", "status"))


def test_a_script_s_name_means_the_only_job_that_runs_it(runs):
    """`elrun status` shows this name, so people type it; a run id of that name goes first."""
    written(runs[0] / "e_n0_7.run", report(run_id="x", name="serve.py"))
    written(runs[0] / "f_n0_8.run", report(run_id="serve", name="other.py"))
    with living(runs[0] / "a_n0_1.run", runs[0] / "e_n0_7.run", runs[0] / "f_n0_8.run"):
        assert ["a_n0_1.run"] == folders_of(choose_job(runs[1], "train.py", "stop"))
        assert ["e_n0_7.run"] == folders_of(choose_job(runs[1], "serve.py", "logs"))
        assert ["f_n0_8.run"] == folders_of(choose_job(runs[1], "serve", "stacks"))


def test_a_script_s_name_of_two_jobs_is_unclear(runs):
    """Which of them is to be stopped is not guessed."""
    with (
        living(runs[0] / "a_n0_1.run", runs[0] / "c_n0_5.run"),
        pytest.raises(VerbRefusal, match="several runs are meant; .*: gamma .*; alpha ") as refused,
    ):
        choose_job(runs[1], "train.py", "stop")

    assert UNCLEAR == refused.value.exit_code


def test_a_script_s_name_means_its_latest_report(runs, tmp_path, monkeypatch):
    """Though the script itself is in the current folder; what is no run and no report is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print()")
    (tmp_path / "notes.txt").write_text("none")

    assert ["c_n0_5.run"] == names_of(chosen_records(["train.py"], runs[1]))
    with pytest.raises(Refusal, match=r"notes\.txt.* is no report of elrun"):
        chosen_records(["notes.txt"], runs[1])


def test_a_script_s_path_means_the_runs_that_have_noted_it(runs, tmp_path, monkeypatch):
    """By whichever of its paths; the path of another script of that name means no run."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "jobs")
    script = str(tmp_path / "jobs" / "train.py")
    for name in ("e_n0_7.run", "f_n0_8.run"):
        path = script if name == "e_n0_7.run" else "/elsewhere/train.py"
        written(runs[0] / name, report(run_id=name[0], script=path))
    monkeypatch.chdir(tmp_path)

    for path in (script, "jobs/train.py", "./link/train.py"):
        assert ["e_n0_7.run"] == folders_of(choose_job(runs[1], path, "logs"))
        assert ["e_n0_7.run"] == names_of(chosen_records([path], runs[1]))
    with pytest.raises(VerbRefusal, match=r"did you mean train\.py\?"):
        choose_job(runs[1], "./train.py", "logs")


@pytest.mark.parametrize("name", ["train.py", "alpha"])
def test_a_script_s_path_is_answered_with_the_name_to_give(runs, tmp_path, name):
    """A shell completes it, and it stood in the command; but another file may have that name."""
    script = tmp_path / "examples" / name
    script.parent.mkdir()
    script.write_text("print()")
    sentences = []
    for look in (
        lambda: choose_job(runs[1], str(script), "stop"),
        lambda: chosen_records([str(script)], runs[1]),
    ):
        with living(runs[0] / "a_n0_1.run"), pytest.raises((Refusal, VerbRefusal)) as refused:
            look()
        sentences.append(str(refused.value))

    hint = f"there is no run '{script}' of yours on this host; did you mean train.py?"
    is_script = name == "train.py"
    assert [is_script, is_script] == [each.startswith(hint) for each in sentences]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("beta", ["b_n0_4.run"]),
        ("alph", ["a_n0_1.run"]),
        ("b_n1_3.run", ["b_n1_3.run"]),
        ("50", ["c_n0_5.run"]),
    ],
)
def test_an_ended_run_is_found_by_the_same_names_as_its_report(runs, wanted, expected):
    """`elrun status`, `logs` and `report` mean the same one."""
    assert expected == folders_of(choose_job(runs[1], wanted, "logs"))
    assert expected == names_of(chosen_records([wanted], runs[1]))


def test_an_ended_job_of_two_agents_is_one(runs):
    """As for the report."""
    os.utime(runs[0] / "b_n0_2.run" / "report.json", (START + 9, START + 9))

    assert {"b_n1_3.run", "b_n0_2.run"} == set(folders_of(choose_job(runs[1], "beta", "logs")))


def test_a_folder_may_be_named_by_its_path(runs, tmp_path):
    """A copy of another host's, too."""
    path = str(runs[0] / "b_n1_3.run")

    assert ["b_n1_3.run"] == folders_of(choose_job({}, path, "status"))


@pytest.mark.parametrize(
    ("wanted", "live", "exit_code", "words"),
    [
        (None, (), NOTHING_THERE, "no job of yours runs on this host (a job can be seen a second"),
        (
            None,
            (0, 4),
            UNCLEAR,
            (
                "several runs are meant; name one by its run id or its agent's process id: elrun "
                "status 50; running: gamma (train.py, agent 50); alpha (train.py, agent 50)"
            ),
        ),
        ("alpa", (0,), NOTHING_THERE, NO_ALPA.format("running: alpha (train.py, agent 50)")),
    ],
)
def test_what_is_unclear_is_one_sentence(runs, wanted, live, exit_code, words):
    """It names what there is."""
    folders = sorted(os.listdir(runs[0]))
    with living(*(runs[0] / folders[at] for at in live)), pytest.raises(VerbRefusal) as refused:
        choose_job(runs[1], wanted, "status")

    assert exit_code == refused.value.exit_code
    assert str(refused.value).startswith(words), refused.value


def test_what_there_is_instead_stands_in_lines(runs):
    """A terminal shows each whole; a number may have been meant for a rank."""
    ranks = [{"rank": rank, "stdout": "", "stderr": ""} for rank in (2, 3)]
    record = report(run_id="gamma", attempts=[{"ranks": ranks}])
    (runs[0] / "c_n0_5.run" / "run.json").write_text(json.dumps(record | {"began_at_s": START}))
    with pytest.raises(VerbRefusal) as refused:
        choose_job(runs[1], "3", "logs")
    with pytest.raises(VerbRefusal) as of_status:
        choose_job(runs[1], "3", "status")

    lines = refused.value.lines
    assert lines[:4] == [
        "there is no run '3' of yours on this host",
        "for rank 3: elrun logs 50 --rank 3",
        "none of yours runs here",
        "ended: gamma (train.py, agent 50)",
    ]
    assert "       beta (train.py, agent 50)" == lines[4]
    assert lines[:1] + lines[2:] == of_status.value.lines


@pytest.mark.parametrize("wanted", ["3", "99999999"])
def test_a_rank_that_no_run_has_is_not_offered(runs, wanted):
    """Nor is one of a run that does not say which ranks it had."""
    with pytest.raises(VerbRefusal) as refused:
        choose_job(runs[1], wanted, "logs")

    assert "none of yours runs here" == refused.value.lines[1]


def test_the_last_run_that_has_ended_is_suggested_where_it_can_be_looked_at(runs):
    """It can't be stopped any more."""
    sentences = []
    for verb in ("status", "stop"):
        with pytest.raises(VerbRefusal) as refused:
            choose_job(runs[1], None, verb)
        sentences.append(str(refused.value))

    assert sentences[0].endswith("; the last one that has ended: elrun status gamma")
    assert sentences[1].endswith("after its start)")


def test_an_empty_name_means_no_run(runs):
    """An unset variable of a shell leaves one: elrun stop "$JOB" must not end any job."""
    for choose in (
        lambda: choose_job(runs[1], "", "stop"),
        lambda: chosen_records([""], runs[1]),
        lambda: chosen_records(["gamma", ""], runs[1]),
    ):
        with pytest.raises(VerbRefusal) as refused:
            choose()

        assert "RUN is empty; name a run, or leave RUN out" == str(refused.value)
        assert UNCLEAR == refused.value.exit_code


def test_stacks_of_an_ended_job_name_the_run_whose_end_is_shown(runs):
    """Without its name, elrun status would look for a job that runs."""
    with pytest.raises(VerbRefusal) as refused:
        run_verb("stacks", ["alpha"], runs[1])

    assert str(refused.value).endswith(" has ended: elrun status alpha shows how")


def test_what_is_no_run_does_not_hide_the_others(runs):
    """A folder with a broken report, and one without."""
    (runs[0] / "z.run").mkdir()
    (runs[0] / "y.run").mkdir()
    (runs[0] / "y.run" / "report.json").write_text("{")

    assert ["c_n0_5.run"] == names_of(chosen_records([], runs[1]))
