"""The agent whose workers are processes of its own node."""

import os
import signal

import pytest
from elrun.agent.local import LocalElasticAgent
from elrun.agent.signals import SignalException
from elrun.agent.worker import WorkerSpec
from elrun.rendezvous.parameters import RendezvousParameters
from elrun.rendezvous.solo import create_standalone
from worker_kit import HANG, Logs

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
