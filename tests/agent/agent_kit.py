"""An agent whose workers are in memory, and rounds of one node that follow a script."""

from elrun.agent import SimpleElasticAgent, WorkerSpec, WorkerState
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.workers.worker import RunResult
from elrun.rendezvous.api.handler import (
    Placement,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
    RoundHandler,
    Verdict,
    VerdictKind,
)

HEALTHY = RunResult(WorkerState.HEALTHY)
SUCCEEDED = RunResult(WorkerState.SUCCEEDED, return_values={0: "a", 1: "b"})


def failed():
    return RunResult(WorkerState.FAILED, failures={0: ProcessFailure(0, 1, 1, "")})


class ScriptedRounds(RoundHandler):
    """Rounds of one node; ``verdicts`` maps a round to one that other nodes have written."""

    def __init__(self, verdicts=None, nodes=1):
        self.calls = []
        self.round = -1
        self.nodes = nodes
        self.restarts = 0
        self.verdicts = verdicts or {}

    def get_backend(self):
        return "scripted"

    def get_run_id(self):
        return "job"

    def describe(self, profile):
        self.calls.append(("describe", profile.local_world_size, profile.role))

    def next_rendezvous(self):
        last = self.verdicts.get(self.round)
        if isinstance(last, Verdict) and last.kind is VerdictKind.WORKER_FAILED:
            self.restarts += 1
        self.round += 1
        self.calls.append("join")
        meeting = RendezvousStoreInfo("node1", 29500 + self.round)
        place = Placement(self.round, 0, self.nodes, 0, 2, 0, 2, self.restarts, meeting)
        return RendezvousInfo(None, 0, self.nodes, meeting, place)

    def subscribe(self, wake):
        self.wake = wake

    def verdict(self):
        verdict = self.verdicts.get(self.round)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def conclude(self, verdict):
        self.calls.append(("conclude", verdict.kind))
        return self.verdicts.setdefault(self.round, verdict)

    def arrive(self):
        self.calls.append("arrive")
        if self.nodes == 1:
            self.conclude(Verdict(VerdictKind.DONE))

    def publish(self, outcome):
        pass

    def collect(self, timeout_s):
        return []

    def is_closed(self):
        return False

    def set_closed(self):
        self.calls.append("close")

    def num_nodes_waiting(self):
        return 0

    def shutdown(self):
        return True


class InMemoryAgent(SimpleElasticAgent):
    """Workers are numbers; ``script`` says how they stand at each look."""

    def __init__(self, rounds, script, max_restarts=3, events="null", **options):
        spec = WorkerSpec(
            "trainer",
            2,
            rounds,
            entrypoint="job",
            max_restarts=max_restarts,
            event_log_handler=events,
        )
        super().__init__(spec, **options)
        self.script = list(script)
        self.calls = []

    def _start_workers(self, worker_group):
        self.calls.append(("start", self._restart_count))
        return {0: "w0", 1: "w1"}

    def _stop_workers(self, worker_group):
        self.calls.append("stop")

    def _monitor_workers(self, worker_group):
        result = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def _shutdown(self, death_sig=15, timeout=30):
        self.calls.append(("shutdown", int(death_sig)))

    def _wait_for_change(self, timeout_s):
        pass


class TorchStore(dict):
    """The few methods of torch's Store that agents of plug-ins' handlers share."""

    def set(self, key, value):
        self[key] = value.encode() if isinstance(value, str) else value

    def get(self, key):
        return self[key]

    def add(self, key, amount):
        self[key] = self.get(key) + amount if key in self else amount
        return self[key]

    def multi_get(self, keys):
        return [self[key] for key in keys]

    def multi_set(self, keys, values):
        for key, value in zip(keys, values, strict=True):
            self.set(key, value)


class TorchInfo:
    """What torch's handlers return: a class that knows no placement."""

    def __init__(self, store, rank, world_size, bootstrap_store_info):
        self.store, self.rank, self.world_size = store, rank, world_size
        self.bootstrap_store_info = bootstrap_store_info


class TorchrunHandler(RendezvousHandler):
    """A handler as plug-ins for torchrun write them: no verdicts, only waiting nodes."""

    def __init__(self, waiting=()):
        self.waiting = list(waiting)

    def get_backend(self):
        return "plug-in"

    def get_run_id(self):
        return "job"

    def next_rendezvous(self):
        return TorchInfo(TorchStore(), 0, 1, RendezvousStoreInfo("node1", 29500))

    def is_closed(self):
        return False

    def set_closed(self):
        pass

    def num_nodes_waiting(self):
        return self.waiting.pop(0) if self.waiting else 0

    def shutdown(self):
        return True


def agent_with(results=(SUCCEEDED,), **options):
    return InMemoryAgent(options.pop("rounds", None) or ScriptedRounds(), list(results), **options)
