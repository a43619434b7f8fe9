"""Beats of workers: from wherever they come, the agent sees them at its next look."""

import os
import subprocess
import sys
import threading

import pytest
from elrun.agent.monitoring.signs_of_life import BeatCell
from elrun.agent.workers.heartbeat import VARIABLE, _Pulse

import elrun


@pytest.fixture(name="cell")
def _cell(monkeypatch):
    """What an agent shares with its workers, of which this process is one."""
    cell = BeatCell()
    monkeypatch.setenv(VARIABLE, cell.path)
    yield cell
    cell.close()


def test_a_beat_is_seen_once(cell):
    """Several between two looks are one."""
    pulse = _Pulse()
    before = cell.take()
    for _ in range(3):
        pulse.beat()

    assert [False, True, False] == [before, cell.take(), cell.take()]


def test_a_thread_and_a_forked_child_beat_as_well(cell):
    """A child has its parent's memory still."""
    pulse = _Pulse()
    pulse.beat()
    cell.take()
    thread = threading.Thread(target=pulse.beat)
    thread.start()
    thread.join()
    of_thread = cell.take()
    child = os.fork()
    if child == 0:
        pulse.beat()
        os._exit(0)
    os.waitpid(child, 0)

    assert (True, True) == (of_thread, cell.take())


@pytest.mark.integration
def test_another_program_finds_the_cell_by_its_environment(cell):
    """As workers do."""
    subprocess.run([sys.executable, "-c", "import elrun; elrun.heartbeat()"], check=True)

    assert cell.take()


@pytest.mark.parametrize("path", [None, "", "/proc/0/fd/7", "/dev/null"])
def test_where_nobody_looks_a_beat_does_nothing(monkeypatch, path):
    """Outside elrun, without the option, and where the agent has gone."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if path is not None:
        monkeypatch.setenv(VARIABLE, path)
    pulse = _Pulse()

    pulse.beat()
    pulse.beat()


def test_the_public_name_is_kept_once_it_was_looked_up():
    """It is called once a step."""
    assert elrun.heartbeat is vars(elrun)["heartbeat"]
