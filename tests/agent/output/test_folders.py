"""Folders of an attempt that are made while a signal comes."""

import os
import threading
import time

import pytest
from elrun.agent.output.folders import make_folders
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
        make_folders(specs, envs, wakeup, stop)

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
        make_folders(specs, {0: {}}, wakeup, found.append)
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
