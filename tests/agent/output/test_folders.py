"""Folders of an attempt that are made while a signal comes."""

import os
import threading
import time

import pytest
from elrun.agent.output.folders import AttemptFolders
from elrun.agent.output.specs import DefaultLogsSpecs
from elrun.agent.system.wakeup import Wakeup


class StopError(Exception):
    """Ends the job."""


class SlowSpecs(DefaultLogsSpecs):
    """Makes folders once somebody waits for them in the agent's loop."""

    def __init__(self):
        super().__init__()
        self.is_awaited = threading.Event()

    def reify(self, envs):
        self.is_awaited.wait()
        return super().reify(envs)


def test_nothing_is_left_of_folders_that_are_being_made(tmp_path, monkeypatch):
    """They are removed at the end of a job that a signal stops: none is made after that."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    specs, envs = SlowSpecs(), {rank: {} for rank in range(100)}
    wakeup = Wakeup()

    def stop(_timeout_s):
        specs.is_awaited.set()
        while not list(tmp_path.glob("*/*/attempt_0")):
            os.sched_yield()
        raise StopError

    with pytest.raises(StopError):
        AttemptFolders(specs, wakeup).make(envs, stop)

    assert "" == specs.cleanup()
    assert [] == list(tmp_path.iterdir())
    wakeup.close()


def test_folders_that_are_soon_made_are_not_waited_for_in_the_loop(tmp_path):
    """One look there asks for everything that may end the job, and a restart waits for it."""

    class QuickSpecs(DefaultLogsSpecs):
        def reify(self, envs):
            time.sleep(0.001)
            return super().reify(envs)

    specs, wakeup = QuickSpecs(str(tmp_path)), Wakeup()

    def waits():
        found = []
        AttemptFolders(specs, wakeup).make({0: {}}, found.append)
        return found

    assert any(not waits() for _ in range(20))  # this machine may be busy
    wakeup.close()


def test_the_temporary_folder_is_told_while_it_is_empty(tmp_path, monkeypatch):
    """Whoever removes it when the agent is killed knows of it then, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    specs, told = DefaultLogsSpecs(), []
    specs.hear_of_temporary_dir = lambda path: told.append((path, os.listdir(path)))

    for attempt in ("0", "1"):
        specs.reify({0: {"TORCHELASTIC_RESTART_COUNT": attempt}})

    (folder,) = tmp_path.iterdir()
    assert [(str(folder), [])] == told


def environments(restarts, run_id="run"):
    """Return those of two workers, in a job that SLURM has started once before."""
    counts = {
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "ELRUN_TOTAL_RESTARTS": str(restarts + 1),
    }
    return {rank: {"TORCHELASTIC_RUN_ID": run_id, **counts} for rank in range(2)}


def made_early(specs, wakeup, envs):
    folders = AttemptFolders(specs, wakeup)
    first = environments(0)
    folders.make(first, wakeup_is_awaited)
    folders.begin(first)
    made = folders.make(envs, wakeup_is_awaited).reify(envs)
    folders.leave()
    return made


def wakeup_is_awaited(_timeout_s):
    os.sched_yield()


def test_folders_that_were_begun_early_are_those_of_the_next_attempt(tmp_path):
    """The workers' environments name the error files in them, and there are no others."""
    wakeup, envs = Wakeup(), environments(1)

    made = made_early(DefaultLogsSpecs(str(tmp_path)), wakeup, envs)

    (run_dir,) = tmp_path.iterdir()
    files = {rank: str(run_dir / "attempt_1" / str(rank) / "error.json") for rank in (0, 1)}
    named = {rank: env["TORCHELASTIC_ERROR_FILE"] for rank, env in envs.items()}
    assert ["attempt_0", "attempt_1"] == sorted(each.name for each in run_dir.iterdir())
    assert (files, files) == (made.error_files, named)
    wakeup.close()


def test_folders_that_were_begun_early_for_another_attempt_are_not_taken(tmp_path):
    """A new round may tell that no restart was spent after all."""
    wakeup, envs = Wakeup(), environments(0)

    made = made_early(DefaultLogsSpecs(str(tmp_path)), wakeup, envs)

    (run_dir,) = tmp_path.iterdir()
    assert "/attempt_0.1/0/" in made.error_files[0]
    assert made.error_files[1] == envs[1]["TORCHELASTIC_ERROR_FILE"]
    assert ["attempt_0", "attempt_0.1"] == sorted(each.name for each in run_dir.iterdir())
    wakeup.close()


def test_folders_of_a_plug_in_are_not_begun_early(tmp_path):
    """It may have the same ones for each attempt, and read them when the workers have ended."""
    wakeup, specs = Wakeup(), SlowSpecs()

    folders = AttemptFolders(specs, wakeup)
    folders.begin(environments(0))
    folders.leave()

    assert (False, "") == (folders.are_apart, specs.temporary_dir)
    wakeup.close()


def test_nothing_is_left_of_folders_for_an_attempt_that_does_not_come(tmp_path, monkeypatch):
    """A signal may end the job while they are being made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    wakeup, specs = Wakeup(), DefaultLogsSpecs()
    folders, make, is_made = AttemptFolders(specs, wakeup), specs.reify, threading.Event()
    folders.make(environments(0), wakeup_is_awaited)

    def make_late(envs):
        is_made.wait(0.2)
        try:
            return make(envs)
        finally:
            is_made.set()

    specs.reify = make_late
    folders.begin(environments(0))
    folders.leave()
    left = specs.cleanup()
    is_made.wait()

    assert ("", []) == (left, list(tmp_path.iterdir()))
    wakeup.close()


def test_folders_in_a_user_s_own_that_no_attempt_came_to_are_removed(tmp_path):
    """They would show an attempt that never was."""
    wakeup = Wakeup()
    folders = AttemptFolders(DefaultLogsSpecs(str(tmp_path)), wakeup)
    folders.make(environments(0), wakeup_is_awaited)
    folders.begin(environments(0))

    folders.leave()

    (run_dir,) = tmp_path.iterdir()
    assert ["attempt_0"] == [each.name for each in run_dir.iterdir()]
    wakeup.close()
