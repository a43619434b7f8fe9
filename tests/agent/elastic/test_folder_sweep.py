"""Folders of workers that have succeeded, where there are many of them."""

import os
from types import SimpleNamespace

import pytest
from elrun.agent.elastic.folder_sweep import FolderSweep
from elrun.agent.processes.results import WorkerExit

SUCCESS = WorkerExit(7, 0, 0.0, stopped=False)
FAILURE = SUCCESS._replace(exitcode=1)


@pytest.fixture(name="workers")
def _workers(tmp_path):
    """Ten workers with a folder each; none has ended."""
    folders = [tmp_path / str(rank) for rank in range(10)]
    for folder in folders:
        folder.mkdir()
    return SimpleNamespace(exits={}, error_file=lambda rank: str(folders[rank] / "error.json"))


def swept(workers, temporary_dir, exits):
    """Return the folders that are left once so many have ended."""
    sweep = FolderSweep(lambda: str(temporary_dir))
    sweep.begin_attempt(workers)
    for rank, end in exits.items():
        workers.exits[rank] = end
        sweep.tick()
        if sweep.call is not None:
            assert sweep.call.wait(10)
    return {
        int(os.path.basename(os.path.dirname(path)))
        for path in map(workers.error_file, range(10))
        if os.path.exists(os.path.dirname(path))
    }


def test_eight_folders_are_removed_at_once(workers, tmp_path):
    """The others are left to the end of the job."""
    assert {8, 9} == swept(workers, tmp_path, dict.fromkeys(range(10), SUCCESS))


def test_a_folder_stays_that_somebody_may_need(workers, tmp_path):
    """Its worker has failed, or there is something in it."""
    (tmp_path / "2" / "stdout.log").write_text("x")
    exits = {rank: FAILURE if rank == 1 else SUCCESS for rank in range(8)}

    assert {1, 2, 8, 9} == swept(workers, tmp_path, exits)


@pytest.mark.parametrize("temporary_dir", ["", "/nowhere"])
def test_a_folder_of_the_users_stays(workers, temporary_dir):
    """Only temporary folders are elrun's to remove."""
    assert {*range(10)} == swept(workers, temporary_dir, dict.fromkeys(range(10), SUCCESS))
