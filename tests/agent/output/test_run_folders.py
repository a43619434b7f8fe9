"""The folders of runs: private, locked while the agent lives, and only the latest are kept."""

import fcntl
import os
import stat
import subprocess
import sys
import threading

import pytest
from elrun.agent.output.run_folders import (
    LONGEST_S,
    MOST_ENDED,
    RunFile,
    RunFolder,
    folder_of_runs,
    is_in_use,
    make_run_folder,
    remove_old_runs,
)

NOW_S = 1_800_000_000


def ended_run(parent, age_s=0.0, name="run"):
    """Return the folder of a run that ended so many seconds ago."""
    folder, fd = make_run_folder(str(parent), name)
    with open(f"{folder}/report.json", "w", encoding="utf-8"):
        pass
    os.utime(folder, (NOW_S - age_s, NOW_S - age_s))
    os.close(fd)
    return folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ELRUN_RUN_DIR": "/srv/runs"}, "/srv/runs"),
        ({"ELRUN_RUN_DIR": "/dev/null", "XDG_RUNTIME_DIR": "{}"}, ""),
        ({"ELRUN_RUN_DIR": "", "XDG_RUNTIME_DIR": "{}"}, "{}/elrun"),
        ({"XDG_RUNTIME_DIR": "{}"}, "{}/elrun"),
        ({"XDG_RUNTIME_DIR": "{}/none", "TMPDIR": "{}"}, "{}/elrun-UID"),
        ({"TMPDIR": "{}/none"}, "/tmp/elrun-UID"),
        ({"TMPDIR": "/proc"}, "/tmp/elrun-UID"),
        ({"TMPDIR": "/dev/null"}, "/tmp/elrun-UID"),
        ({}, "/tmp/elrun-UID"),
    ],
)
def test_where_runs_have_their_folders(tmp_path, variables, expected):
    """An empty variable counts as none; a runtime folder that is not there does, too."""
    found = folder_of_runs({name: each.format(tmp_path) for name, each in variables.items()})

    assert expected.format(tmp_path).replace("UID", str(os.geteuid())) == found


def test_a_runtime_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    """`sudo` leaves the variable of the user who has called it."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    assert folder_of_runs({"XDG_RUNTIME_DIR": str(tmp_path)}) == "/tmp/elrun-12345"


@pytest.mark.parametrize("run_id", ["job/1", "..", "x" * 500, "\N{SNOWMAN} \n", ""])
def test_a_folder_is_private_whatever_the_run_s_name_is(tmp_path, run_id):
    """It stands in its parent, and nowhere else."""
    folder, fd = make_run_folder(str(tmp_path / "b"), run_id)
    os.close(fd)

    assert (str(tmp_path / "b"), 0o700) == (
        os.path.dirname(folder),
        stat.S_IMODE(os.stat(folder).st_mode),
    )


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_folder_that_others_may_have_laid_out_is_refused(tmp_path, trap):
    """Anybody may make a folder of that name in the temporary folder."""
    parent = tmp_path / f"elrun-{os.geteuid()}"
    if trap == "link":
        (tmp_path / "theirs").mkdir()
        parent.symlink_to(tmp_path / "theirs")
    elif trap == "open":
        parent.mkdir()
        parent.chmod(0o777)
    else:
        parent.write_text("")

    with pytest.raises(OSError):
        make_run_folder(str(parent), "job")


def test_the_latest_runs_are_kept(tmp_path):
    """So many, and none that is older than a week."""
    latest = [ended_run(tmp_path, age_s) for age_s in range(MOST_ENDED)]
    ended_run(tmp_path, MOST_ENDED)

    remove_old_runs(str(tmp_path), NOW_S)

    assert sorted(latest) == sorted(str(each) for each in tmp_path.iterdir())


def test_a_run_of_last_week_is_removed(tmp_path):
    """However few there are."""
    ended_run(tmp_path, LONGEST_S + 1)
    kept = ended_run(tmp_path, LONGEST_S - 1)

    remove_old_runs(str(tmp_path), NOW_S)

    assert [kept] == [str(each) for each in tmp_path.iterdir()]


def test_a_run_that_goes_on_is_kept_for_as_long_as_it_takes(tmp_path):
    """Its agent has locked the folder."""
    folder, fd = make_run_folder(str(tmp_path), "long")
    os.utime(folder, (0, 0))

    remove_old_runs(str(tmp_path), NOW_S)
    is_there = os.path.exists(folder)
    os.close(fd)
    remove_old_runs(str(tmp_path), NOW_S)

    assert (True, False) == (is_there, os.path.exists(folder))


def test_one_who_looks_meanwhile_takes_no_lock_away(tmp_path, monkeypatch):
    """`elrun status` holds a shared lock for a moment, on a folder that was just made, too."""
    lock, looks = fcntl.flock, []

    def lock_after_a_look(fd, how):
        if not looks:
            looks.append(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
            lock(looks[0], fcntl.LOCK_SH)
            threading.Timer(0.05, os.close, looks).start()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_a_look)
    folder, fd = make_run_folder(str(tmp_path), "run")

    assert is_in_use(folder)
    os.close(fd)


def test_the_folder_of_a_killed_agent_is_one_of_an_ended_run(tmp_path):
    """Whatever its process id is used for since."""
    code = (
        "import os, sys; from elrun.agent.output.run_folders import make_run_folder\n"
        "make_run_folder(sys.argv[1], 'killed'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (folder,) = tmp_path.iterdir()
    os.utime(folder, (0, 0))

    remove_old_runs(str(tmp_path), NOW_S)

    assert [] == [*tmp_path.iterdir()]


def test_what_is_no_run_s_stays(tmp_path):
    """The folder may be one in which a person keeps other things."""
    for name in ("folder", "other.run"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.run").write_text("")
    (tmp_path / "other.run" / "deep").mkdir()
    (tmp_path / "link.run").symlink_to(tmp_path / "folder")
    for each in tmp_path.iterdir():
        os.utime(each, (0, 0), follow_symlinks=False)

    remove_old_runs(str(tmp_path), NOW_S)

    assert {"folder", "other.run", "file.run", "link.run"} == {e.name for e in tmp_path.iterdir()}


def test_the_folder_is_made_with_the_first_version(tmp_path):
    """Not before: most jobs need none."""
    file = RunFile(RunFolder(lambda: str(tmp_path / "runs"), "job"), "report.json", "the report")
    before = [*tmp_path.iterdir()]
    file.write(b"one")
    file.settle()

    ((folder,),) = ([*each.iterdir()] for each in tmp_path.iterdir())
    assert ([], b"one", ["report.json"]) == (
        before,
        (folder / "report.json").read_bytes(),
        os.listdir(folder),
    )


def test_a_folder_that_can_not_be_made_is_named_once(tmp_path, caplog):
    """The job goes on."""
    (tmp_path / "file").write_text("")
    file = RunFile(RunFolder(lambda: str(tmp_path / "file"), "job"), "report.json", "the report")
    for number in range(3):
        file.write(b"%d" % number)
    file.settle()

    assert [f"the report can't be written to {tmp_path}/file: Not a directory"] == caplog.messages


def test_a_tree_of_folders_is_not_made(tmp_path):
    """A slip in ``ELRUN_RUN_DIR`` would hide the report where nobody looks."""
    with pytest.raises(FileNotFoundError):
        make_run_folder(str(tmp_path / "a" / "b"), "job")

    assert [] == os.listdir(tmp_path)
