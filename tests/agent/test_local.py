"""The agent whose workers are processes of its own node."""

import os
import signal
import threading

import pytest
from agent_kit import ScriptedRounds
from elrun.agent import local
from elrun.agent.local import LocalElasticAgent
from elrun.agent.signals import SignalException
from elrun.agent.worker import WorkerSpec
from elrun.rendezvous.handler import RendezvousConnectionError
from elrun.rendezvous.parameters import RendezvousParameters
from elrun.rendezvous.solo import create_standalone
from worker_kit import EXIT_0, HANG, PATIENCE_S, Logs

pytestmark = pytest.mark.integration


class SignalledAgent(LocalElasticAgent):
    """Gets a signal when it is about to start its workers."""

    def _start_workers(self, worker_group):
        os.kill(os.getpid(), signal.SIGUSR1)
        self.started = super()._start_workers(worker_group)
        return self.started


def test_a_signal_ends_the_start_of_the_workers():
    """However many there are, the agent listens between two of them."""
    handler = create_standalone(RendezvousParameters("standalone", "", "run", 1, 1))
    spec = WorkerSpec("trainer", 4, handler, entrypoint="bash", args=("-c", HANG))
    agent = SignalledAgent(spec, Logs(), signals_to_handle="SIGUSR1")

    with pytest.raises(SignalException):
        agent.run()

    handler.shutdown()
    assert {} == agent.started


class SlowRounds(ScriptedRounds):
    """Its round begins once somebody has asked who is there, and that has been told."""

    def __init__(self, who):
        super().__init__()
        self.who = who
        self.is_told = threading.Event()

    def next_rendezvous(self):
        assert self.is_told.wait(PATIENCE_S)
        return super().next_rendezvous()

    def describe_wait(self):
        if isinstance(self.who, Exception):
            raise self.who
        return self.who


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("1 of 2 nodes is here", "run 'job': 1 of 2 nodes is here"),
        ("", "run 'job'"),
        (RendezvousConnectionError("lost"), "run 'job'"),
    ],
)
def test_a_long_wait_is_told_with_who_is_there(monkeypatch, who, said):
    """Once; as far as the rendezvous knows, and it may have trouble of its own."""
    monkeypatch.setattr(local, "SILENCE_S", 0.001)
    rounds = SlowRounds(who)
    told = []

    def listen(*message):
        told.append(message[0] % message[1:])
        rounds.is_told.set()

    monkeypatch.setattr(local.log, "warning", listen)
    spec = WorkerSpec("trainer", 1, rounds, entrypoint="bash", args=("-c", EXIT_0))

    LocalElasticAgent(spec, Logs()).run()

    assert [f"waiting for other nodes to join {said}"] == told
