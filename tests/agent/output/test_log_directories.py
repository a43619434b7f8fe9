"""Directories of log files: made, refused, and removed where they are temporary."""

import errno
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from elrun.agent.output.specs import (
    DefaultLogsSpecs,
    Std,
)
from specs_kit import NOTHING, attempt_of, envs_for


@pytest.fixture(name="temporary")
def _temporary(tmp_path, monkeypatch):
    """The place for temporary files, empty."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.mark.parametrize("restarts", ["x", "", "1.5"])
def test_a_caller_s_own_count_of_restarts_may_be_any_text(tmp_path, restarts):
    """Those of SLURM are unknown then."""
    envs = envs_for(restarts=restarts)
    DefaultLogsSpecs(tmp_path).reify(envs)

    (folder,) = tmp_path.iterdir()
    assert "job_" == folder.name[:-8]


@pytest.mark.parametrize(
    ("total", "restarts", "name"), [(0, 0, "job_"), (1, 1, "job_"), (3, 1, "job_restart2_")]
)
def test_a_job_that_slurm_starts_again_has_a_folder_of_another_name(
    tmp_path, total, restarts, name
):
    """Its logs stand beside those of its earlier start; elrun's own restarts are attempts."""
    envs = envs_for(restarts=restarts)
    for env in envs.values():
        env["ELRUN_TOTAL_RESTARTS"] = str(total)
    DefaultLogsSpecs(tmp_path).reify(envs)

    (folder,) = tmp_path.iterdir()
    assert name == folder.name[:-8]
    assert [f"attempt_{restarts}"] == os.listdir(folder)


def test_no_directory_is_made_before_it_is_needed(temporary):
    """One who only reads the options leaves nothing behind."""
    specs = DefaultLogsSpecs()

    assert ("", []) == (specs.root_log_dir, os.listdir(temporary))


def test_a_temporary_directory_is_private(temporary):
    """What workers print is nobody else's business."""
    specs = DefaultLogsSpecs()
    specs.reify(envs_for())

    (path,) = temporary.iterdir()
    assert str(path) == specs.root_log_dir
    assert path.name.startswith("elrun_")
    assert 0o700 == stat.S_IMODE(path.stat().st_mode)


def test_an_empty_temporary_directory_is_removed_at_the_end(temporary):
    """With all its attempts."""
    specs = DefaultLogsSpecs()
    for restarts in (0, 1):
        specs.reify(envs_for(restarts=restarts))
    specs.cleanup()

    assert [] == os.listdir(temporary)


def fill(dest, text="x"):
    """Write all log files and error files of an attempt."""
    for paths in (dest.stdouts, dest.stderrs, dest.error_files):
        for path in paths.values():
            if path not in ("", os.devnull):
                Path(path).write_text(text)


@pytest.mark.parametrize(
    ("wishes", "copied", "is_left"),
    [
        pytest.param({"tee": Std.ALL}, True, False, id="the console had all"),
        pytest.param({"tee": Std.ALL}, False, True, id="it had not, or the job failed"),
        pytest.param({"tee": Std.OUT, "redirects": Std.ERR}, True, True, id="some is nowhere else"),
        pytest.param(
            {"tee": Std.ALL, "local_ranks_filter": {1}}, True, True, id="a rank is hidden"
        ),
        pytest.param({}, True, False, id="an error file of an attempt that was restarted"),
    ],
)
def test_log_files_that_nobody_asked_for_go_when_the_console_had_them(
    temporary, wishes, copied, is_left
):
    """Under ``--tee`` alone they are copies; whatever stays has been named, or is to be."""
    specs = DefaultLogsSpecs(**wishes)
    dest = specs.reify(envs_for())
    fill(dest)
    folder = specs.cleanup(copied=copied)

    assert is_left is bool(os.listdir(temporary))
    is_named = "redirects" in wishes
    assert (os.path.dirname(attempt_of(dest)) if is_left and not is_named else "") == folder


def test_what_else_stands_in_a_temporary_directory_stays(temporary):
    """Whatever a worker put there: elrun removes its own files only."""
    specs = DefaultLogsSpecs(tee=Std.ALL)
    dest = specs.reify(envs_for())
    fill(dest)
    note = Path(attempt_of(dest), "note")
    note.write_text("mine")

    assert os.path.dirname(attempt_of(dest)) == specs.cleanup(copied=True)
    assert [note] == [path for path in temporary.rglob("*") if path.is_file()]


def test_a_temporary_directory_with_something_in_it_stays(temporary):
    """An error file is what a person looks for then."""
    specs = DefaultLogsSpecs()
    path = Path(specs.reify(envs_for()).error_files[1])
    path.write_text("{}")
    specs.cleanup()

    assert "{}" == path.read_text()


@pytest.mark.parametrize(
    ("log_dir", "wishes", "is_told"),
    [
        (None, {"redirects": Std.OUT}, True),
        (None, {"redirects": {1: Std.ALL}}, True),
        (None, {"tee": Std.ALL}, False),
        (None, {}, False),
        ("logs", {"redirects": Std.ALL}, False),
    ],
)
def test_output_in_a_folder_that_nobody_named_is_told_of(
    temporary, caplog, log_dir, wishes, is_told
):
    """Who redirects it, and names no folder, must be able to find it."""
    specs = DefaultLogsSpecs(log_dir and str(temporary / log_dir), **wishes)

    dest = specs.reify(envs_for())

    run_dir = os.path.dirname(attempt_of(dest))
    expected = [f"log files are in {run_dir}"] if is_told else []
    assert expected == [each.message for each in caplog.records if each.levelname == "WARNING"]


def test_no_place_for_temporary_files_is_a_warning_that_says_what_to_do(
    monkeypatch, tmp_path, caplog
):
    """A read-only machine runs the job, and names the variable and the option."""
    place = str(tmp_path / "missing")
    monkeypatch.setenv("TMPDIR", place)

    def mkdtemp(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)

    dest = DefaultLogsSpecs(tee=Std.ALL).reify(envs_for())

    assert [os.devnull, os.devnull] == [dest.stdouts[0], dest.error_files[0]]
    advice = "set TMPDIR to a folder that you can write to, or give --log-dir"
    assert (
        f"no directory for log and error files: {place}: No such file or directory; {advice}; "
        "the job goes on without them"
    ) == "".join(each.message for each in caplog.records)


def test_a_users_directory_is_never_removed(tmp_path):
    """It is the user's, empty or not."""
    specs = DefaultLogsSpecs(str(tmp_path / "logs"))
    dest = specs.reify(envs_for())
    specs.cleanup()

    assert os.path.isdir(attempt_of(dest))


def test_cleaning_up_without_a_temporary_directory_does_nothing(temporary):
    """A job may end before its first attempt."""
    DefaultLogsSpecs().cleanup()

    assert [] == os.listdir(temporary)


def test_a_temporary_directory_that_was_cleaned_away_is_made_again(temporary):
    """Cleaners of /tmp come while a job runs."""
    specs = DefaultLogsSpecs()
    specs.reify(envs_for())
    shutil.rmtree(specs.root_log_dir)
    path = Path(attempt_of(specs.reify(envs_for(restarts=1))))

    assert (True, temporary) == (path.is_dir(), path.parent.parent.parent)


def test_one_job_s_end_takes_nothing_from_another(temporary):
    """Two jobs with the same wishes have a temporary directory each."""
    wishes = DefaultLogsSpecs(redirects=Std.OUT)
    ended, running = wishes.for_one_job(), wishes.for_one_job()
    attempts = [attempt_of(specs.reify(envs_for())) for specs in (ended, running)]
    ended.cleanup()

    assert [False, True] == [os.path.isdir(attempt) for attempt in attempts]
    assert ("", wishes) == (wishes.root_log_dir, running)


def test_a_missing_log_directory_is_made(tmp_path):
    """With its parents."""
    DefaultLogsSpecs(str(tmp_path / "a" / "b"))

    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_is_no_log_directory(tmp_path):
    """It is refused at once, and stays what it was."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(ValueError, match=r"file' can't be used: it is a file; give a directory"):
        DefaultLogsSpecs(str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"can't be used: Not a directory; give a directory"):
        DefaultLogsSpecs(str(tmp_path / "file" / "below"))
    assert "mine" == (tmp_path / "file").read_text()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_program_may_catch_what_torch_raises_for_a_file(tmp_path, name):
    """There it is no ValueError."""
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError, match="can't be used: "):
        DefaultLogsSpecs(str(tmp_path / name))


def test_a_log_directory_that_cannot_be_made_is_refused():
    """/proc takes none, not even from root."""
    with pytest.raises(ValueError, match=r"log_dir '/proc/logs' can't be used: .*; give a dir"):
        DefaultLogsSpecs("/proc/logs")
    with pytest.raises(OSError, match="log_dir '/proc/logs' can't be used"):  # as torch's
        DefaultLogsSpecs("/proc/logs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_directory_that_cannot_be_written_to_is_refused(tmp_path):
    """Before anything starts."""
    tmp_path.chmod(0o500)

    with pytest.raises(ValueError, match=r"can't be used: Permission denied; give a directory"):
        DefaultLogsSpecs(str(tmp_path))


def test_a_log_directory_on_a_disk_that_takes_nothing_is_refused(tmp_path, monkeypatch):
    """No change of its permissions would help."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))

    with pytest.raises(ValueError, match=r"can't be used: Read-only file system; give a directory"):
        DefaultLogsSpecs(str(tmp_path))


def test_a_log_directory_that_takes_no_run_is_refused():
    """Only trying tells, as root: /proc/self/fd is there, and takes nothing."""
    specs = DefaultLogsSpecs("/proc/self/fd")

    with pytest.raises(ValueError, match=r"log_dir '/proc/self/fd' can't be used: "):
        specs.reify(envs_for())


def test_a_fault_after_the_start_costs_files_and_not_the_job(tmp_path, caplog):
    """What was to have a file goes to the console, with its prefix where it was teed."""
    specs = DefaultLogsSpecs(str(tmp_path / "logs"), redirects={0: Std.OUT}, tee={1: Std.OUT})
    specs.reify(envs_for())
    shutil.rmtree(tmp_path / "logs")
    envs = envs_for(restarts=1)
    dest = specs.reify(envs)

    assert ({0: "", 1: os.devnull}, {1: os.devnull}) == (dest.stdouts, dest.tee_stdouts)
    assert "" == envs[0]["TORCHELASTIC_ERROR_FILE"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.startswith("no directory for log and error files: ")
    assert warning.endswith(f"{os.strerror(errno.ENOENT)}; the job goes on without them")


def test_a_missing_place_for_temporary_files_does_not_stop_the_job(temporary, caplog):
    """Nobody asked for files."""
    temporary.rmdir()
    specs = DefaultLogsSpecs()
    dest = specs.reify(envs_for())
    specs.cleanup()

    assert ({0: os.devnull, 1: os.devnull}, NOTHING) == (dest.error_files, dest.stdouts)
    assert 1 == len(caplog.records)
