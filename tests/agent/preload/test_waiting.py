"""Workers that wait: each answer of the fork server's belongs to the request before it."""

import os
import resource
import signal

import pytest
from elrun.agent.preload.waiting import WaitingWorkers


class Forks:
    """Stands for the fork server: a request starts a process, whose id is the next answer."""

    is_usable = True

    def __init__(self):
        self.answers, self.greeted = [], []

    def request(self, group, numbers, fds=(), *, waits=False):
        self.answers.append(os.spawnlp(os.P_NOWAIT, "setsid", "setsid", "sleep", "1000"))

    def has_answered(self):
        return bool(self.answers)

    def answer_fds(self):
        return []

    def greet(self, group):
        self.greeted.append(self.answers.pop(0))
        group[0].greet(self.greeted[-1])
        return group


class Guards:
    def forget(self, pid):
        """Take note of nothing."""

    watch_helper = forget


@pytest.fixture(name="forks")
def _forks():
    forks = Forks()
    yield forks
    for pid in forks.answers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_one_that_was_asked_for_in_vain_is_greeted_and_ended(forks):
    """Its answer would be taken for that to the next request."""
    waiting = WaitingWorkers(forks, Guards())
    waiting.keep(1)
    waiting.tick()

    waiting.dismiss()
    first = forks.answers[0]
    waiting.settle()

    assert ([first], []) == (forks.greeted, forks.answers)
    with pytest.raises(ChildProcessError):  # reaped
        os.waitpid(first, 0)


def test_nobody_is_left_where_those_that_wait_are_dismissed(forks):
    """And others are asked for in their stead, as many as are wanted."""
    waiting = WaitingWorkers(forks, Guards())
    waiting.keep(1)
    waiting.tick()
    waiting.settle()

    waiting.dismiss()
    waiting.tick()

    assert (1, 1) == (len(forks.greeted), len(forks.answers))
    waiting.close()


def test_where_there_are_no_descriptors_no_further_one_is_asked_for(forks):
    """The attempt that runs goes on; the next one forks or executes its workers."""
    waiting = WaitingWorkers(forks, Guards())
    waiting.keep(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        waiting.tick()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    waiting.tick()

    assert [] == forks.answers
    waiting.close()
