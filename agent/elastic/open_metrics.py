"""What an agent's job does, in numbers for Prometheus; ``docs/watching.md`` has the table.

The agent's loop tells what happens. The numbers are put together when somebody asks, in the asking
thread: then what the workers use is read, too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector

from ...rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind
from ..failures.failure import HANG, signal_name
from ..failures.report import RootCause
from ..system.process_usage import ProcessUsage, usage_of_process
from ..workers.worker import RunResult, WorkerGroup, WorkerState
from .observer import Moment, Observer
from .policy import Step, delay_of

if TYPE_CHECKING:
    from ..workers.worker import Worker

OPEN_METRICS = exposition.CONTENT_TYPE_LATEST
MOST_CAUSES = 50
"""How many causes of restarts have a line of their own; further ones are ``other``."""

MOST_CAUSE_CHARS = 200
"""A worker may leave any text as the type of its exception."""

_RANK = ("rank", "local_rank")
_ENDED = {
    WorkerState.SUCCEEDED: "succeeded",
    WorkerState.FAILED: "failed",
    WorkerState.STOPPED: "stopped",
}
_STATES = ("running", "waiting", "succeeded", "failed", "stopped")


class JobMetrics(Observer, Collector):
    """The numbers of one agent's job.

    Args:
        version: elrun's version.
        printed: Returns how much workers have printed that elrun carries, by global rank.
        beat_age_s: Returns for how long this node has written no beat; None: it writes none.
        clock: Returns this moment.
    """

    def __init__(
        self,
        group: WorkerGroup,
        run_id: str,
        version: str,
        printed: Callable[[], Mapping[int, int]],
        beat_age_s: Callable[[], float | None],
        clock: Callable[[], Moment] = Moment.now,
    ) -> None:
        self._group = group
        self._about = {"run_id": run_id, "version": version, "role": group.spec.role}
        self._printed = printed
        self._beat_age_s = beat_age_s
        self._clock = clock
        self._began_at = clock()
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        # The lock guards what follows.
        self._workers: Sequence[tuple[Worker, int]] = ()
        self._restarts: dict[str, int] = {}
        self._rejoins: dict[str, int] = {}
        self._waited_s = {"nodes": 0.0, "end": 0.0, "restart_delay": 0.0}
        self._wait: tuple[str, Moment] | None = None
        self._gaps = (0, 0.0)
        self._gap_since: Moment | None = None
        self._rounds = self._nodes = self._ranks = 0
        self._has_ended = False
        self._registry.register(self)

    def open_metrics(self) -> str:
        """Return the numbers in the format of OpenMetrics."""
        text: bytes = exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return text.decode()

    def prometheus_text(self) -> bytes:
        """Return the numbers in Prometheus's own format, for a textfile collector."""
        return generate_latest(self._registry)

    def joining(self) -> None:
        """Count the time until there is a place for this node."""
        with self._lock:
            self._wait = ("nodes", self._clock())
            self._nodes = self._ranks = 0

    def joined(self, info: RendezvousInfo) -> None:
        """Count the round."""
        place = info.placement
        with self._lock:
            self._end_wait()
            self._rounds += 1
            self._nodes = info.world_size
            self._ranks = 0 if place is None else place.world_size

    def workers_started(self) -> None:
        """Take note of the workers."""
        found = [(each, each.id) for each in self._group.workers if isinstance(each.id, int)]
        with self._lock:
            self._workers = found
            if self._gap_since is not None:
                count, sum_s = self._gaps
                self._gaps = count + 1, sum_s + self._clock().since(self._gap_since)
                self._gap_since = None

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Count a restart, or the wait for the other nodes at the end."""
        at = at or self._clock()
        with self._lock:
            if step is Step.WAIT_FOR_OTHERS and self._wait is None:
                self._wait = ("end", at)
            if step in (Step.WATCH, Step.WAIT_FOR_OTHERS, Step.REPORT_FAILURE):
                return
            self._end_wait()
            if step in (Step.RESTART, Step.REJOIN):
                self._gap_since = at
                counts = self._restarts if step is Step.RESTART else self._rejoins
                cause = cause_of(verdict)
                if cause not in counts and len(counts) >= MOST_CAUSES:
                    cause = "other"
                counts[cause] = counts.get(cause, 0) + 1
            if step is Step.RESTART:
                self._waited_s["restart_delay"] += delay_of(verdict)

    def workers_ended(self, result: RunResult) -> None:
        """Look at these workers' processes no more."""
        with self._lock:
            self._workers = ()

    def finish(self) -> None:
        """Take note that the job has ended on this node."""
        with self._lock:
            self._end_wait()
            self._has_ended, self._workers = True, ()
            self._nodes = self._ranks = 0

    def collect(self) -> Iterator[Metric]:
        """Yield all numbers; the library calls this."""
        with self._lock:
            found = [*self._of_job(), *self._of_rounds()]
            workers = self._workers
        yield from found
        yield from self._of_workers(workers)
        age_s = self._beat_age_s()
        if age_s is not None:
            yield _gauge(
                "elrun_heartbeat_age_seconds",
                "How long ago the store took this node's latest beat.",
                age_s,
            )

    def _end_wait(self) -> None:
        """Add up the wait that is over; called with the lock held."""
        if self._wait is not None:
            reason, since = self._wait
            self._waited_s[reason] += self._clock().since(since)
            self._wait = None

    def _of_job(self) -> Iterator[Metric]:
        """Yield what is said of the job; called with the lock held."""
        yield InfoMetricFamily("elrun_run", "The run, and who runs it.", value=self._about)
        yield _gauge(
            "elrun_run_start_timestamp_seconds",
            "When the job began on this node.",
            self._began_at.wall_s,
        )
        yield _gauge(
            "elrun_run_ended", "1 once the job has ended on this node.", int(self._has_ended)
        )
        yield _gauge(
            "elrun_max_restarts", "Restarts that the job may spend.", self._group.spec.max_restarts
        )
        yield _counter(
            "elrun_restarts",
            "Restarts of the job's workers that have cost one of --max-restarts, by cause.",
            "cause",
            self._restarts,
        )
        yield _counter(
            "elrun_rejoins",
            "Rounds that this node has left for another one at no cost, by cause.",
            "cause",
            self._rejoins,
        )

    def _of_rounds(self) -> Iterator[Metric]:
        """Yield what is said of the rounds; called with the lock held."""
        yield CounterMetricFamily(
            "elrun_rounds", "Rounds in which this node had a place.", value=self._rounds
        )
        yield _gauge("elrun_nodes", "Nodes of the round; 0 between two rounds.", self._nodes)
        yield _gauge("elrun_ranks", "Ranks of the round; 0 between two rounds.", self._ranks)
        waited_s = dict(self._waited_s)
        if self._wait is not None:
            reason, since = self._wait
            waited_s[reason] += self._clock().since(since)
        yield _counter(
            "elrun_waiting_seconds",
            "Time that this node has waited: for nodes, for their end, or before a restart.",
            "reason",
            waited_s,
        )
        count, sum_s = self._gaps
        yield SummaryMetricFamily(
            "elrun_restart_gap_seconds",
            "From the end of a round to the start of the next workers.",
            count_value=count,
            sum_value=sum_s,
        )

    def _of_workers(self, workers: Sequence[tuple[Worker, int]]) -> Iterator[Metric]:
        usages = [(worker, usage_of_process(pid)) for worker, pid in workers]
        yield self._by_state(usages)
        cpu = CounterMetricFamily(
            "elrun_worker_cpu_seconds", "CPU time of a worker's process.", labels=_RANK
        )
        memory = GaugeMetricFamily(
            "elrun_worker_resident_memory_bytes",
            "What a worker's process has in memory.",
            labels=_RANK,
        )
        output = CounterMetricFamily(
            "elrun_worker_output_bytes",
            "What a worker has printed that elrun carries.",
            labels=_RANK,
        )
        printed = self._printed() if usages else {}
        for worker, usage in usages:
            labels = [str(worker.global_rank), str(worker.local_rank)]
            if usage is not None:
                cpu.add_metric(labels, usage.cpu_s)
                memory.add_metric(labels, usage.memory_bytes)
            if worker.global_rank in printed:
                output.add_metric(labels, printed[worker.global_rank])
        yield from (cpu, memory, output)
        own = usage_of_process(os.getpid())
        if own is not None:
            yield CounterMetricFamily(
                "elrun_agent_cpu_seconds", "CPU time of elrun itself.", value=own.cpu_s
            )
            yield _gauge(
                "elrun_agent_resident_memory_bytes", "What elrun has in memory.", own.memory_bytes
            )

    def _by_state(self, usages: Sequence[tuple[Worker, ProcessUsage | None]]) -> Metric:
        counts = dict.fromkeys(_STATES, 0)
        total = self._group.spec.local_world_size
        counts["running"] = sum(usage is not None for _, usage in usages)
        counts[_ENDED.get(self._group.state, "waiting")] += total - counts["running"]
        metric = GaugeMetricFamily(
            "elrun_workers", "This node's workers by what they do.", labels=("state",)
        )
        for state, count in counts.items():
            metric.add_metric([state], count)
        return metric


def cause_of(verdict: Verdict | None) -> str:
    """Return why a round ended, in a word: an exception, a signal, an exit code, or what it is."""
    if verdict is None:
        return "unknown"
    if verdict.kind is not VerdictKind.WORKER_FAILED:
        return str(verdict.kind.value)
    try:
        root = RootCause.from_json(dict(verdict.details))
    except ValueError:
        return str(verdict.kind.value)
    if root.cause == HANG:
        return HANG
    if root.exception:
        name = root.exception[:MOST_CAUSE_CHARS].removeprefix("builtins.")
        return name.encode(errors="backslashreplace").decode()
    return signal_name(root.exitcode) if root.exitcode < 0 else f"exit code {root.exitcode}"


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _counter(name: str, about: str, label: str, values: Mapping[str, Any]) -> Metric:
    metric = CounterMetricFamily(name, about, labels=(label,))
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric
