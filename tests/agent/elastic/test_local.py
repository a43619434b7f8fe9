"""The agent whose workers are processes of its own node."""

import os
import signal
import threading

import pytest
from agent_kit import ScriptedRounds
from elrun.agent.elastic.local import LocalElasticAgent
from elrun.agent.elastic.wait_notices import LongWait
from elrun.agent.system.signals import SignalException
from elrun.agent.workers.worker import WorkerSpec
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.solo import create_standalone
from elrun.rendezvous.errors import RendezvousConnectionError
from worker_kit import EXIT_0, HANG, PATIENCE_S, Logs

pytestmark = pytest.mark.integration


class SignalledAgent(LocalElasticAgent):
    """Gets a signal when it is about to start its workers."""

    def _start_workers(self, worker_group):
        os.kill(os.getpid(), signal.SIGUSR1)
        return super()._start_workers(worker_group)


class NotedLogs(Logs):
    """Notes when its folders are made."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def reify(self, envs):
        self.noted.append("folders")
        return super().reify(envs)


class NotedServer:
    """A preload server that says how workers are started now."""

    def __init__(self, noted):
        self.noted = noted

    def hold_start(self, wait):
        """Hold nothing up: all is imported."""

    def executor(self):
        self.noted.append("executor")


class NotedAgent(LocalElasticAgent):
    """Has a preload server that is noted."""

    noted = ()

    def _start_workers(self, worker_group):
        self._companions.preload_server = NotedServer(self.noted)
        return super()._start_workers(worker_group)


def test_how_workers_are_started_is_decided_when_the_folders_for_their_logs_are_there():
    """The agent's loop turns until then: the preload server may end meanwhile."""
    handler = create_standalone(RendezvousParameters("standalone", "", "run", 1, 1))
    spec = WorkerSpec("trainer", 1, handler, entrypoint="bash", args=("-c", EXIT_0))
    noted = []
    agent = NotedAgent(spec, NotedLogs(noted))
    agent.noted = noted
    agent.run()
    handler.shutdown()

    assert ["folders", "executor"] == noted


def test_a_signal_ends_the_start_of_the_workers():
    """However many there are, the agent listens between two of them."""
    handler = create_standalone(RendezvousParameters("standalone", "", "run", 1, 1))
    spec = WorkerSpec("trainer", 4, handler, entrypoint="bash", args=("-c", HANG))
    agent = SignalledAgent(spec, Logs(), signals_to_handle="SIGUSR1")

    with pytest.raises(SignalException):
        agent.run()

    handler.shutdown()
    assert {} == agent._pcontext.pids()


class SlowRounds(ScriptedRounds):
    """Its round begins once somebody has asked who is there, and that has been told."""

    def __init__(self, who):
        super().__init__()
        self.who = who
        self.is_asked = threading.Event()

    def next_rendezvous(self):
        assert self.is_asked.wait(PATIENCE_S)
        return super().next_rendezvous()

    def describe_wait(self):
        self.is_asked.set()
        if isinstance(self.who, Exception):
            raise self.who
        return self.who


class LostRounds(ScriptedRounds):
    """A second round can't be formed."""

    def next_rendezvous(self):
        if self.round == 0:
            raise RendezvousConnectionError("the store was lost")
        return super().next_rendezvous()


def test_a_failure_is_told_also_where_no_round_follows_it(caplog):
    """Whether it costs a restart is decided by the next round, for which its sentence waits."""
    rounds = LostRounds(nodes=2)
    spec = WorkerSpec("trainer", 2, rounds, None, "bash", ("-c", "exit 3"), 1)
    with pytest.raises(RendezvousConnectionError):
        LocalElasticAgent(spec, Logs()).run()

    told = [
        record.getMessage() for record in caplog.records if "exited with" in record.getMessage()
    ]
    assert [True] == ["restarting all workers (restart 1 of 1)" in each for each in told], told


GIVES_UP = (
    "; this node gives up in 594 s, with exit code 75 (--rdzv-conf join_timeout=600)"  # after 5.5 s
)


@pytest.mark.parametrize(
    ("who", "told"),
    [
        ("1 of 2 nodes is here", [f"waiting in run 'job': 1 of 2 nodes is here{GIVES_UP}"]),
        ("", []),
        (RendezvousConnectionError("lost"), []),
    ],
)
def test_a_long_wait_is_told_with_who_is_there(who, told, caplog):
    """As far as the rendezvous knows, and it may have trouble of its own."""
    woken = threading.Event()
    times = iter([0.0, 1.0, 5.0, 5.5, 6.0])
    rounds = SlowRounds(who)
    wait = LongWait("job", rounds.describe_wait, lambda: 600.0, woken.set, clock=times.__next__)
    first, asking = wait.turn(), wait.turn()
    assert woken.wait(PATIENCE_S)
    then = wait.turn()

    assert (4.0, None, 4.5) == (first, asking, then)
    assert told == [record.getMessage() for record in caplog.records]


def test_a_wait_that_has_no_end_is_told_without_one(caplog):
    """``join_timeout=inf`` is kept as ten years, which nobody wants to read in seconds."""
    woken = threading.Event()
    times = iter([0.0, 10.0, 20.0])
    wait = LongWait("job", lambda: "1 of 2", lambda: 3e8, woken.set, clock=times.__next__)
    wait.turn()
    assert woken.wait(PATIENCE_S)
    wait.turn()

    assert ["waiting in run 'job': 1 of 2"] == [each.getMessage() for each in caplog.records]


def test_a_spare_s_time_begins_when_it_may_take_part(caplog):
    """Beside a running round it has no limit."""
    woken = threading.Event()
    times = iter([0.0, 10.0, 20.0, 30.0])
    limits = iter([None, 60.0])
    told = iter(["a spare", "1 of 2 nodes is here", ""])
    wait = LongWait("job", told.__next__, limits.__next__, woken.set, clock=times.__next__)
    for _ in range(3):
        wait.turn()
        assert woken.wait(PATIENCE_S)
        woken.clear()

    of_spare, of_member = (record.getMessage() for record in caplog.records)
    assert "waiting in run 'job': a spare" == of_spare
    assert of_member.endswith(
        "here; this node gives up in 60 s, with exit code 75 (--rdzv-conf join_timeout=60)"
    )


def test_a_wait_that_is_soon_over_asks_nothing():
    """Nor does an agent whose round begins within seconds tell of it."""
    rounds = ScriptedRounds()
    spec = WorkerSpec("trainer", 1, rounds, entrypoint="bash", args=("-c", EXIT_0))
    asked = []
    rounds.describe_wait = lambda: asked.append(1) or "1 of 2 nodes is here"

    LocalElasticAgent(spec, Logs()).run()

    assert [] == asked
