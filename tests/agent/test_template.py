"""The template as people use it who run workers elsewhere: public names only, workers in memory."""

import os
import signal
import threading

import pytest
from elrun.agent import (
    ProcessFailure,
    RunResult,
    SignalException,
    SimpleElasticAgent,
    WorkerSpec,
    WorkerState,
)
from elrun.rendezvous import (
    RendezvousGracefulExitError,
    RendezvousHandler,
    RendezvousParameters,
    get_rendezvous_handler,
)

HEALTHY, UNHEALTHY, UNKNOWN = WorkerState.HEALTHY, WorkerState.UNHEALTHY, WorkerState.UNKNOWN
FAILED, SUCCEEDED = WorkerState.FAILED, WorkerState.SUCCEEDED


@pytest.fixture(name="meeting")
def _meeting():
    """Make handlers of a real rendezvous, as programs do; by default that of one node alone."""
    handlers = []

    def make(backend="standalone", endpoint="", nodes=(1, 1), **settings):
        parameters = RendezvousParameters(backend, endpoint, "job", nodes[0], nodes[1], **settings)
        handlers.append(get_rendezvous_handler(parameters))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.shutdown()


class RemoteAgent(SimpleElasticAgent):
    """Its workers are names; ``looks`` says in which state each look finds them."""

    def __init__(self, handler, looks=(SUCCEEDED,), max_restarts=1, **options):
        spec = WorkerSpec(
            role="trainer",
            local_world_size=2,
            rdzv_handler=handler,
            entrypoint="train",
            max_restarts=max_restarts,
            monitor_interval=0.01,
        )
        super().__init__(spec, **options)
        self.looks = list(looks)
        self.story = []
        self.worlds = []

    def _start_workers(self, worker_group):
        self.story.append(f"start in state {worker_group.state.value}")
        self.worlds.append(worker_group.workers[0].world_size)
        return {w.local_rank: f"machine-{w.global_rank}" for w in worker_group.workers}

    def _stop_workers(self, worker_group):
        self.story.append("stop")

    def _monitor_workers(self, worker_group):
        state = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        ranks = [worker.global_rank for worker in worker_group.workers]
        if state is SUCCEEDED:
            return RunResult(state, return_values={rank: rank * 10 for rank in ranks})
        if state is FAILED:
            return RunResult(state, failures={ranks[0]: ProcessFailure(0, 4711, 3, "")})
        return RunResult(state)

    def _shutdown(self, death_sig=signal.SIGTERM, timeout=30):
        self.story.append(f"shutdown {death_sig.name} {timeout:g}")


def test_workers_that_succeed_give_their_values_by_global_rank(meeting):
    """The ids of the subclass stand at the workers; the group goes from INIT to SUCCEEDED."""
    agent = RemoteAgent(meeting(), [HEALTHY, HEALTHY, SUCCEEDED])
    group = agent.get_worker_group()
    assert WorkerState.INIT is group.state

    result = agent.run()

    assert (SUCCEEDED, {0: 0, 1: 10}) == (result.state, result.return_values)
    assert (SUCCEEDED, ["machine-0", "machine-1"]) == (group.state, [w.id for w in group.workers])
    assert ["start in state INIT", "shutdown SIGTERM 30"] == agent.story


@pytest.mark.parametrize("broken", [FAILED, UNHEALTHY])
def test_workers_that_are_not_well_start_again(meeting, broken):
    """Unhealthy ones, too: they are stopped first, and start from state STOPPED."""
    agent = RemoteAgent(meeting(), [HEALTHY, broken, SUCCEEDED])

    assert SUCCEEDED is agent.run().state
    assert 0 == agent._remaining_restarts
    assert [
        "start in state INIT",
        "stop",
        "start in state STOPPED",
        "shutdown SIGTERM 30",
    ] == agent.story


@pytest.mark.parametrize("broken", [FAILED, UNHEALTHY])
def test_a_spent_budget_is_a_failed_result_and_no_exception(meeting, broken):
    """It names who failed, as far as anybody knows."""
    agent = RemoteAgent(meeting(), [broken], max_restarts=2)

    result = agent.run()

    assert result.is_failed()
    assert ({FAILED: [3], UNHEALTHY: [1]}[broken]) == [
        failure.exitcode for failure in result.failures.values()
    ]
    assert (3, 3) == (agent.story.count("stop"), len(agent.worlds))
    assert FAILED is agent.get_worker_group().state


def test_workers_in_an_unknown_state_are_shut_down_and_the_error_says_so(meeting):
    """There is nothing to restart that anybody could be sure of."""
    agent = RemoteAgent(meeting(), [HEALTHY, UNKNOWN])

    with pytest.raises(RuntimeError, match="UNKNOWN"):
        agent.run()

    assert ["start in state INIT", "shutdown SIGTERM 30"] == agent.story


def test_workers_that_can_not_be_started_are_shut_down(meeting):
    """The subclass's own error reaches the caller; what it had started is its to clean up."""

    class Unlucky(RemoteAgent):
        def _start_workers(self, worker_group):
            raise ConnectionError("no machine is free")

    agent = Unlucky(meeting())

    with pytest.raises(ConnectionError, match="no machine is free"):
        agent.run()

    assert ["shutdown SIGTERM 30"] == agent.story


class NeverNeeded(RendezvousHandler):
    """A spare's handler: the job ends before it has a seat."""

    def get_backend(self):
        return "mine"

    def get_run_id(self):
        return "job"

    def next_rendezvous(self):
        raise RendezvousGracefulExitError("the others have finished")

    def is_closed(self):
        return True

    def set_closed(self):
        pass

    def num_nodes_waiting(self):
        return 0

    def shutdown(self):
        return True


def test_a_node_that_is_never_needed_ends_well():
    """No worker starts, nothing raises, and there is a result (torchrun's agent returns None)."""
    agent = RemoteAgent(NeverNeeded())

    result = agent.run()

    assert not result.is_failed()
    assert ["shutdown SIGTERM 30"] == agent.story


def test_a_signal_is_passed_on_to_the_workers_and_raised(meeting):
    """A handler raises it out of the loop's wait; the workers have the given time."""

    def stop(number, _frame):
        raise SignalException("enough", signal.Signals(number))

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        agent = RemoteAgent(meeting(), [HEALTHY], shutdown_timeout=5)
        agent._wait_for_change = lambda _timeout_s: os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(SignalException) as raised:
            agent.run()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert signal.SIGUSR1 is raised.value.sigval
    assert ["start in state INIT", "shutdown SIGUSR1 5"] == agent.story


@pytest.mark.integration
def test_a_node_that_joins_restarts_the_workers_at_no_cost(meeting, vacant_port):
    """Two agents in one process: the first begins alone, and its workers learn of the second's."""
    endpoint = f"127.0.0.1:{vacant_port()}"

    def agent():
        handler = meeting("c10d", endpoint, nodes=(1, 2), last_call_timeout=0)
        return RemoteAgent(handler, [HEALTHY], max_restarts=0)

    first, second = agent(), agent()
    results = []

    def run(each):
        results.append(each.run().state)

    first._wait_for_change, begun = watched(first)
    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in (first, second)]
    threads[0].start()
    begun.wait()
    second._wait_for_change, both_run = watched(second)
    threads[1].start()
    both_run.wait()
    first.looks = second.looks = [SUCCEEDED]
    for thread in threads:
        thread.join()

    assert [SUCCEEDED, SUCCEEDED] == results
    assert ([2, 4], [4]) == (first.worlds, second.worlds)
    assert 0 == first._remaining_restarts


def watched(agent):
    """Return the agent's way of waiting, and an event that is set once it waits."""
    wait, waits = agent._wait_for_change, threading.Event()

    def wait_and_tell(timeout_s):
        waits.set()
        wait(timeout_s)

    return wait_and_tell, waits


def test_every_step_may_be_taken_over(meeting):
    """What the template calls, it calls on the subclass."""
    taken = []

    class Overriding(RemoteAgent):
        def _initialize_workers(self, worker_group):
            taken.append("initialize")
            super()._initialize_workers(worker_group)

        def _rendezvous(self, worker_group):
            taken.append("rendezvous")
            super()._rendezvous(worker_group)

        def _restart_workers(self, worker_group):
            taken.append("restart")
            super()._restart_workers(worker_group)

        def _exit_barrier(self):
            taken.append("barrier")
            super()._exit_barrier()

        def _record_metrics(self, group_results):
            taken.append("metrics")
            super()._record_metrics(group_results)

        def _record_worker_events(self, result):
            taken.append("events")
            super()._record_worker_events(result)

    Overriding(meeting(), [FAILED, SUCCEEDED]).run()

    assert [
        *("initialize", "rendezvous"),
        *("restart", "initialize", "rendezvous"),
        *("barrier", "metrics", "events"),
    ] == taken


def test_workers_that_have_succeeded_are_not_looked_at_again(meeting):
    """Their machines may be gone by then, and a look could only say that nobody knows."""
    agent = RemoteAgent(meeting(), [HEALTHY, SUCCEEDED, UNKNOWN])

    assert SUCCEEDED is agent.run().state
    assert [UNKNOWN] == agent.looks


class TakesNothing(RemoteAgent):
    def _shutdown(self):
        self.story.append("shutdown")


class TakesTheSignal(RemoteAgent):
    def _shutdown(self, sig=signal.SIGTERM):
        self.story.append(f"shutdown {sig.name}")


class TakesAll(RemoteAgent):
    def _shutdown(self, *args, **options):
        self.story.append(f"shutdown {args[0].name} {options['timeout']:g}")


@pytest.mark.parametrize(
    ("agent_class", "expected"),
    [
        (TakesNothing, "shutdown"),
        (TakesTheSignal, "shutdown SIGTERM"),
        (TakesAll, "shutdown SIGTERM 30"),
    ],
)
def test_a_shutdown_of_an_older_template_gets_what_it_takes(meeting, agent_class, expected):
    """torch's template gave none, then the signal, then the time: subclasses of all ages run."""
    agent = agent_class(meeting())

    agent.run()

    assert expected == agent.story[-1]


@pytest.mark.integration
@pytest.mark.parametrize("identical", ["0", "1"])
def test_agents_of_a_plug_in_s_rendezvous_agree_on_ranks(meeting, identical):
    """Roles and sizes may differ; TORCH_ELASTIC_WORKER_IDENTICAL=1 says that they don't."""
    from torch.distributed import HashStore  # a second, for this test only

    store = HashStore()
    brought = [("actor", 2), ("learner", 1), ("actor", 3)] if identical == "0" else [("a", 2)] * 3
    environ = {"TORCH_ELASTIC_WORKER_IDENTICAL": identical}
    found = [None] * len(brought)

    def agree(rank):
        role, size = brought[rank]
        spec = WorkerSpec(role, size, meeting(), entrypoint="train")
        agent = RemoteAgent(spec.rdzv_handler, environ=environ)
        found[rank] = agent._assign_worker_ranks(store, rank, len(brought), spec)

    threads = [threading.Thread(target=agree, args=(rank,)) for rank in range(len(brought))]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join()

    workers = [worker for node in found for worker in node]
    total = len(workers)
    assert list(range(total)) == [worker.global_rank for worker in workers]
    assert {total} == {worker.world_size for worker in workers}
    assert ([0, 1, 0, 2, 3, 4] if identical == "0" else list(range(6))) == [
        worker.role_rank for worker in workers
    ]
    assert ([5, 5, 1, 5, 5, 5] if identical == "0" else [6] * 6) == [
        worker.role_world_size for worker in workers
    ]
    assert (0 if identical == "1" else 6) == store.num_keys()
