"""How long a restart waits for what is still being imported behind the attempt before it."""

import os
from types import SimpleNamespace

import pytest
from elrun.agent.preload.learning import LearningServer

TOOK_S = 2.0
WAITS_S = TOOK_S + 1  # and a little for a process that begins only now


class Importing:
    """Stands for a preloading process whose import does not end."""

    has_given_up = False
    waited = 0.0

    def __init__(self):
        nothing = dict.fromkeys(("keep", "call", "dismiss", "tick"), lambda *_: None)
        self.waiting = SimpleNamespace(filenos=list, **nothing)

    def is_settled(self):
        return False

    def waited_s(self):
        return self.waited

    def filenos(self):
        return []

    def patience_left_s(self):
        return None

    def hurry(self):
        """Go on as before."""

    def close(self):
        """End nothing."""


@pytest.fixture(name="job")
def _job():
    """Return a server whose attempt has ended while a module was imported, and its parts."""
    job = SimpleNamespace(now=100.0, process=Importing())
    job.server = LearningServer(None, lambda _: job.process, {}, 1, lambda: job.now)
    _, _, pipe, *_ = job.server._lessons.settings({}, {}).split("\n")
    record = b"7\0torch\0/torch.py\x00%.1f" % TOOK_S
    os.write(int(pipe), b"%4d%s" % (len(record), record))
    job.server.begin_attempt(SimpleNamespace(pids=lambda: {0: 7}))
    job.server.tick()
    job.process.waited = 50.0  # while the attempt ran
    job.server.end_attempt()
    yield job
    job.server.end()


def test_a_restart_waits_as_long_as_a_worker_took(job):
    """An import that hangs holds nobody up for longer."""
    before = job.server.is_settled
    job.now += WAITS_S

    assert (False, True) == (before, job.server.is_settled)


def test_time_without_a_cpu_does_not_count(job):
    """Workers that import the same would have none, and would have to begin anew."""
    job.now += WAITS_S + 10
    job.process.waited += 11
    before, wakes = job.server.is_settled, job.server.wakes()
    job.now += WAITS_S

    assert (False, True) == (before, job.server.is_settled)
    assert 0 < wakes.within_s < WAITS_S
