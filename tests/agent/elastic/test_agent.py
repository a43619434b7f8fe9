"""The agent's loop, with workers in memory and rounds that follow a script."""

import pytest
from agent_kit import (
    HEALTHY,
    SUCCEEDED,
    InMemoryAgent,
    ScriptedRounds,
    TorchrunHandler,
    failed,
)
from elrun.agent import SignalException, WorkerSpec, WorkerState
from elrun.agent.elastic.observer import Moment, Observer
from elrun.agent.elastic.policy import Step
from elrun.agent.elastic.restarts import Restarts
from elrun.agent.workers.worker import RunResult
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    RendezvousStateError,
    RendezvousTimeoutError,
)


def test_a_run_that_succeeds_returns_what_its_workers_returned():
    """Start, watch, wait for the others, leave, and always shut down."""
    rounds = ScriptedRounds()
    agent = InMemoryAgent(rounds, [HEALTHY, HEALTHY, SUCCEEDED])

    result = agent.run()

    assert (WorkerState.SUCCEEDED, {0: "a", 1: "b"}) == (result.state, result.return_values)
    assert [("start", 0), ("shutdown", 15)] == agent.calls
    assert [("describe", 2, "trainer"), "join", "arrive", ("conclude", VerdictKind.DONE)] == (
        rounds.calls
    )


def test_the_group_gets_its_ranks_from_the_round():
    """Ranks, sizes, addresses and worker ids are in place before workers are watched."""
    agent = InMemoryAgent(ScriptedRounds(), [SUCCEEDED])

    agent.run()

    group = agent.get_worker_group()
    assert [("w0", 0, 2), ("w1", 1, 2)] == [
        (w.id, w.global_rank, w.world_size) for w in group.workers
    ]
    assert ("node1", 29500) == (group.master_addr, group.master_port)


@pytest.mark.parametrize(("max_restarts", "words"), [(1, 1), (0, 0)])
def test_workers_are_asked_to_end_before_a_word_is_said(caplog, max_restarts, words):
    """They end while the sentence is written; at a failed job the summary says it all."""
    said_before = []
    agent = InMemoryAgent(ScriptedRounds(), [failed(), SUCCEEDED], max_restarts)
    agent._ask_workers_to_end = lambda _step: said_before.append(len(caplog.records))

    agent.run()

    assert ([0], words) == (said_before, len(caplog.records))


class OneNode(ScriptedRounds):
    """There is nobody to wait for."""

    answers_at_once = True


class Starting(InMemoryAgent):
    """Takes down how many lines had been logged when workers were started; starts some in vain."""

    def __init__(self, caplog, starts, rounds):
        super().__init__(rounds, [failed(), SUCCEEDED], 1)
        self._restarts = Restarts(1, None)
        self.caplog, self.starts, self.said = caplog, list(starts), []

    def _start_workers(self, worker_group):
        self.said.append(len(self.caplog.records))
        if not self.starts.pop(0):
            raise OSError(11, "no process is left")
        return super()._start_workers(worker_group)


@pytest.mark.parametrize(("rounds", "said"), [(OneNode, 0), (ScriptedRounds, 1)])
def test_the_line_waits_for_the_next_attempt_if_that_begins_at_once(caplog, rounds, said):
    """It would hold up the workers; other nodes may take minutes."""
    agent = Starting(caplog, [True, True], rounds())

    agent.run()

    assert ([0, said], 1) == (agent.said, len(caplog.records))


def test_the_line_is_said_if_the_next_attempt_does_not_start(caplog):
    """The reason of the first failure would be lost."""
    agent = Starting(caplog, [True, False], OneNode())

    with pytest.raises(OSError, match="no process is left"):
        agent.run()

    assert "restarting all workers (restart 1 of 1)" in caplog.text


@pytest.mark.parametrize("max_restarts", [1, 0])
def test_workers_are_asked_to_end_before_anything_is_recorded(max_restarts):
    """To write a report takes longer than to send a signal."""
    order = []

    class Record(Observer):
        def round_ended(self, verdict, step, at=None):
            if step is not Step.WATCH:
                order.append(step)

    agent = InMemoryAgent(ScriptedRounds(), [failed(), SUCCEEDED], max_restarts)
    agent._ask_workers_to_end = lambda _step: order.append("asked")
    agent.observe(Record())

    agent.run()

    assert ["asked", Step.RESTART if max_restarts else Step.FAIL] == order[:2]


class Ends(Observer):
    """Takes down the ends of rounds, and when they were."""

    def __init__(self):
        self.steps, self.moments = [], []

    def round_ended(self, verdict, step, at=None):
        if step is not Step.WATCH:
            self.steps.append(step)
            self.moments.append(at)


def test_a_round_ends_before_its_workers_are_asked_for_anything():
    """Their answers may take a second, which is no part of the round."""
    asked_at, ends = [], Ends()
    agent = InMemoryAgent(ScriptedRounds(), [failed(), SUCCEEDED], 1)
    agent._ask_workers_to_end = lambda _step: asked_at.append(Moment.now())
    agent.observe(ends)

    agent.run()

    assert Step.RESTART is ends.steps[0]
    assert asked_at[0].since(ends.moments[0]) > 0


def test_the_end_of_a_round_is_recorded_if_its_workers_can_not_be_asked():
    """Else an attempt of the report had none."""
    ends = Ends()
    agent = InMemoryAgent(ScriptedRounds(), [failed()], 0)
    agent._ask_workers_to_end = lambda _step: 1 / 0
    agent.observe(ends)

    with pytest.raises(ZeroDivisionError):
        agent.run()

    assert [Step.FAIL] == ends.steps


def test_a_failure_restarts_the_group_within_the_budget():
    """Each failure costs one restart, and the workers are told how many there were."""
    rounds = ScriptedRounds()
    agent = InMemoryAgent(rounds, [failed(), HEALTHY, failed(), SUCCEEDED])

    result = agent.run()

    assert not result.is_failed()
    assert [
        ("start", 0),
        "stop",
        ("start", 1),
        "stop",
        ("start", 2),
        ("shutdown", 15),
    ] == agent.calls
    assert 1 == agent._remaining_restarts


def test_a_spent_budget_fails_the_job_and_closes_the_run():
    """The result has the failures; nobody can join any more."""
    rounds = ScriptedRounds()
    agent = InMemoryAgent(rounds, [failed()], max_restarts=1)

    result = agent.run()

    assert result.is_failed()
    assert [0] == list(result.failures)
    assert [("start", 0), "stop", ("start", 1), "stop", ("shutdown", 15)] == agent.calls
    assert "close" == rounds.calls[-1]


@pytest.mark.parametrize("kind", [VerdictKind.NODE_WAITING, VerdictKind.NODE_LOST])
def test_a_membership_change_costs_no_restart(kind):
    """The workers start again in a new round with the same restart count."""
    rounds = ScriptedRounds({0: Verdict(kind)})
    agent = InMemoryAgent(rounds, [HEALTHY, SUCCEEDED], max_restarts=0)

    agent.run()

    assert [("start", 0), "stop", ("start", 0), ("shutdown", 15)] == agent.calls


def test_a_failure_elsewhere_restarts_healthy_workers():
    """Another node's verdict is as good as an own failure."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.WORKER_FAILED, by=1)}, nodes=2)
    rounds.verdicts[1] = Verdict(VerdictKind.DONE)
    agent = InMemoryAgent(rounds, [HEALTHY, SUCCEEDED])

    agent.run()

    assert [("start", 0), "stop", ("start", 1), ("shutdown", 15)] == agent.calls


def test_workers_that_finished_start_again_when_another_node_s_failed():
    """A group is restarted as one, also the part that had succeeded."""
    rounds = ScriptedRounds({1: Verdict(VerdictKind.DONE)}, nodes=2)
    agent = InMemoryAgent(rounds, [SUCCEEDED])
    rounds.arrive = lambda: rounds.conclude(Verdict(VerdictKind.WORKER_FAILED, by=1))

    result = agent.run()

    assert not result.is_failed()
    assert [("start", 0), "stop", ("start", 1), ("shutdown", 15)] == agent.calls


def test_a_failure_that_came_second_follows_the_first_verdict():
    """If nodes are waiting already, a failing worker costs nothing."""
    rounds = ScriptedRounds()
    agent = InMemoryAgent(rounds, [failed(), SUCCEEDED], max_restarts=0)
    rounds.conclude = lambda verdict: rounds.verdicts.setdefault(
        rounds.round, Verdict(VerdictKind.NODE_WAITING if rounds.round == 0 else VerdictKind.DONE)
    )

    assert not agent.run().is_failed()


def test_the_exit_barrier_is_bounded():
    """A node whose peers never finish leaves with its own success."""
    agent = InMemoryAgent(ScriptedRounds(nodes=2), [SUCCEEDED], exit_barrier_timeout=0)

    assert WorkerState.SUCCEEDED is agent.run().state


@pytest.mark.parametrize(("said", "given"), [("0", None), ("300", 0), ("soon", 0)])
def test_an_agent_of_a_program_s_own_takes_its_exit_barrier_from_the_variable(said, given):
    """Unless the program gives another."""
    agent = InMemoryAgent(
        ScriptedRounds(nodes=2),
        [SUCCEEDED],
        exit_barrier_timeout=given,
        environ={"TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT": said},
    )

    assert WorkerState.SUCCEEDED is agent.run().state


def test_an_exit_barrier_that_is_no_time_is_refused():
    """Before anything starts, with the variable's name."""
    said = {"TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT": "soon"}

    with pytest.raises(ValueError, match=r"^TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT=soon: give a"):
        InMemoryAgent(ScriptedRounds(), [SUCCEEDED], environ=said)


LOST = RendezvousConnectionError("the store was lost")


@pytest.mark.parametrize(
    "looks", [[SUCCEEDED], [HEALTHY, SUCCEEDED]], ids=["before", "at the same time"]
)
def test_success_outlives_the_store(looks, caplog):
    """A store that is lost once the workers have succeeded is a warning, and no failure."""
    rounds = ScriptedRounds({0: LOST}, nodes=2)
    result = InMemoryAgent(rounds, looks).run()

    assert (WorkerState.SUCCEEDED, SUCCEEDED.return_values) == (result.state, result.return_values)
    assert "can't be known: the store was lost" in caplog.text


@pytest.mark.parametrize("error", [LOST, RendezvousStateError("it holds something foreign")])
def test_success_that_nobody_can_be_told_of_is_success(error, caplog):
    """The mark can't be left, for whatever reason: what was done is done."""
    rounds = ScriptedRounds(nodes=2)

    def arrive():
        raise error

    rounds.arrive = arrive

    assert WorkerState.SUCCEEDED is InMemoryAgent(rounds, [SUCCEEDED]).run().state
    assert 1 == len(caplog.records)
    assert str(error) in caplog.text


def test_a_store_that_is_lost_while_workers_run_ends_them():
    """Nobody knows of the others any more."""
    rounds = ScriptedRounds({0: LOST}, nodes=2)

    with pytest.raises(RendezvousConnectionError):
        InMemoryAgent(rounds, [HEALTHY]).run()


def test_a_node_that_was_never_needed_succeeds():
    """A graceful exit of the rendezvous is no failure, and gives a result."""
    rounds = ScriptedRounds()
    agent = InMemoryAgent(rounds, [HEALTHY])

    def leave():
        raise RendezvousGracefulExitError("the job ended")

    rounds.next_rendezvous = leave

    assert WorkerState.SUCCEEDED is agent.run().state
    assert [("shutdown", 15)] == agent.calls


def test_a_signal_goes_on_to_the_workers():
    """The signal that ended the agent is what its workers get."""
    agent = InMemoryAgent(ScriptedRounds(), [HEALTHY, SignalException("stop", 2)])

    with pytest.raises(SignalException):
        agent.run()

    assert ("shutdown", 2) == agent.calls[-1]


def test_a_node_that_is_stopped_tells_the_others():
    """They go on without it: its leaving is a membership change."""
    rounds = ScriptedRounds(nodes=2)
    agent = InMemoryAgent(rounds, [SignalException("stop", 15)])

    with pytest.raises(SignalException):
        agent.run()

    assert ("conclude", VerdictKind.NODE_LOST) == rounds.calls[-1]


def test_a_lost_store_stops_the_workers():
    """The error says what was lost; the workers are shut down first."""
    rounds = ScriptedRounds({0: RendezvousConnectionError("node1:29400 is gone")})
    agent = InMemoryAgent(rounds, [HEALTHY])

    with pytest.raises(RendezvousConnectionError, match="node1:29400"):
        agent.run()

    assert [("start", 0), ("shutdown", 15)] == agent.calls


def test_workers_that_nobody_knows_about_end_the_run():
    """State UNKNOWN raises, after a shutdown."""
    agent = InMemoryAgent(ScriptedRounds(), [RunResult(WorkerState.UNKNOWN)])

    with pytest.raises(RuntimeError, match="state UNKNOWN"):
        agent.run()

    assert ("shutdown", 15) == agent.calls[-1]


def test_workers_that_can_not_be_started_end_the_run():
    """An error of the subclass passes through, after a shutdown."""
    agent = InMemoryAgent(ScriptedRounds(), [HEALTHY])

    def explode(worker_group):
        raise OSError("no more processes")

    agent._start_workers = explode

    with pytest.raises(OSError, match="no more processes"):
        agent.run()

    assert [("shutdown", 15)] == agent.calls


def test_a_verdict_that_came_with_the_round_is_seen_before_any_wait():
    """Whoever waits first would sleep on a wake-up that has been and gone."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.NODE_WAITING)})
    agent = InMemoryAgent(rounds, [HEALTHY, SUCCEEDED])
    waits = []
    agent._wait_for_change = lambda timeout_s: waits.append(rounds.round)

    agent.run()

    assert [] == [number for number in waits if number == 0]


def test_an_aborted_run_ends_with_its_reason():
    """Workers are shut down, and the error says who gave up and why."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.ABORTED, reason="node2 has no GPU")})
    agent = InMemoryAgent(rounds, [HEALTHY])

    with pytest.raises(RendezvousClosedError, match="node2 has no GPU"):
        agent.run()

    assert [("start", 0), ("shutdown", 15)] == agent.calls


def test_a_node_that_fails_by_itself_aborts_the_round():
    """The others would wait for ever for one that could not start its workers."""
    rounds = ScriptedRounds(nodes=2)
    agent = InMemoryAgent(rounds, [HEALTHY, OSError("no more processes")])

    with pytest.raises(OSError, match="no more processes"):
        agent.run()

    assert ("conclude", VerdictKind.ABORTED) == rounds.calls[-1]


def test_a_failure_that_nobody_describes_still_has_one():
    """A verdict without details leaves its reason as the failure."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.WORKER_FAILED, reason="rank 9 failed")})
    agent = InMemoryAgent(rounds, [HEALTHY], max_restarts=0)

    (failure,) = agent.run().failures.values()

    assert "rank 9 failed" == failure.summary


def test_a_handler_written_for_torchrun_works():
    """Ranks are agreed on through its store; restarts are counted by the agent."""
    agent = InMemoryAgent(TorchrunHandler(), [failed(), SUCCEEDED])

    result = agent.run()

    assert not result.is_failed()
    assert [("start", 0), "stop", ("start", 1), ("shutdown", 15)] == agent.calls
    assert [(0, 2), (1, 2)] == [
        (w.global_rank, w.role_world_size) for w in agent.get_worker_group().workers
    ]


def test_a_handler_written_for_torchrun_is_asked_for_waiting_nodes():
    """Nodes that wait start a new round, at no cost."""
    agent = InMemoryAgent(TorchrunHandler([0, 2]), [HEALTHY, HEALTHY, SUCCEEDED], max_restarts=0)

    agent.run()

    assert [("start", 0), "stop", ("start", 0), ("shutdown", 15)] == agent.calls


def test_torch_s_errors_become_ours_by_their_names():
    """A time-out of a plug-in's ends as a time-out of elrun's, without importing torch."""
    theirs = type("RendezvousTimeoutError", (Exception,), {})
    handler = TorchrunHandler()

    def fail():
        raise theirs

    handler.next_rendezvous = fail

    with pytest.raises(RendezvousTimeoutError, match="RendezvousTimeoutError"):
        InMemoryAgent(handler, [HEALTHY]).run()


def test_identical_workers_need_no_store():
    """TORCH_ELASTIC_WORKER_IDENTICAL=1 saves the exchange."""
    agent = InMemoryAgent(
        TorchrunHandler(), [SUCCEEDED], environ={"TORCH_ELASTIC_WORKER_IDENTICAL": "1"}
    )
    spec = agent.get_worker_group().spec

    workers = agent._assign_worker_ranks(None, 1, 2, spec)

    assert [(2, 4), (3, 4)] == [(w.global_rank, w.world_size) for w in workers]


@pytest.mark.parametrize(
    ("field", "value"),
    [("local_world_size", 0), ("monitor_interval", 0), ("max_restarts", -1), ("entrypoint", None)],
)
def test_an_impossible_plan_is_refused(field, value):
    """A spec that exists can be run."""
    fields = {"role": "r", "local_world_size": 1, "rdzv_handler": None, "entrypoint": "job"}

    with pytest.raises(ValueError, match=field):
        WorkerSpec(**{**fields, field: value})
