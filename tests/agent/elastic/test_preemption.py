"""How a node's workers leave when the job is preempted."""

import os
import signal
from types import SimpleNamespace

import pytest
from elrun.agent.elastic import preemption
from elrun.agent.elastic.preemption import Leaving
from elrun.agent.system.signals import Preempted


@pytest.mark.parametrize(("is_pending", "asked"), [(True, []), (False, [signal.SIGUSR1])])
def test_a_signal_that_waits_at_the_guardian_has_come_to_all(monkeypatch, is_pending, asked):
    """A guardian that is stopped witnesses nothing: the workers' time does not pass meanwhile."""
    monkeypatch.setattr(preemption, "WITNESS_S", 0.01)
    reading, writing = os.pipe()
    sent = []
    workers = SimpleNamespace(
        running_pids=lambda: {0: 1},
        signal_workers=lambda number, **_to: sent.append(number),
        close=lambda *_how, **_more: None,
        look=lambda: None,
        exits={},
    )
    guardian = SimpleNamespace(
        witness_fd=reading, take_witnessed=list, has_pending=lambda _number: is_pending
    )
    deadline = SimpleNamespace(
        ask=lambda: None, wait=lambda _s: None, sentence=lambda _at: "", grace_s=1.0
    )
    group = SimpleNamespace(workers=[])

    leaving = Leaving(Preempted(signal.SIGUSR1, "n"), group, workers, guardian, deadline)
    leaving.end_workers(-1)
    os.close(reading)
    os.close(writing)

    assert asked == sent
