"""Keeps the history of a run: what happened on this node, beside samples of its workers.

``docs/watching.md`` describes its lines. ``report.json`` says how each attempt ended; the history
says what the node did when, and what its workers used meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...rendezvous.api.handler import RendezvousInfo, Verdict
from ..output.whole_file import SETTLE_S
from ..workers.worker import RunResult, WorkerGroup
from .observer import Moment, Observer
from .policy import END_STEPS, Step, delay_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..failures.stack_places import Whereabouts
    from ..monitoring.history_recorder import HistoryRecorder
    from ..workers.worker import Worker
    from .observer import Heard

MOST_CHARS = 500


class History(Observer):
    """Hands what an agent does to the thread that writes it down."""

    def __init__(self, recorder: HistoryRecorder, group: WorkerGroup, began_at: Moment) -> None:
        self._recorder = recorder
        self._group = group
        self._began_at = began_at
        self._past: Moment | None = began_at
        self._workers: tuple[Worker, ...] | None = None
        self._is_waiting = False
        self._put("start")
        self._past = None

    def replay(self, heard: Iterable[Heard]) -> None:
        """Take what an agent has done so far, as it was then."""
        for moment, workers, call in heard:
            self._past, self._workers = moment, workers
            call(self)
        self._past = self._workers = None

    def joining(self) -> None:
        """Note that this node is about to meet the others."""
        self._put("joining")

    def joined(self, info: RendezvousInfo) -> None:
        """Note the round."""
        place = info.placement
        self._is_waiting = False
        self._put(
            "joined",
            round=None if place is None else place.round,
            group_rank=info.rank,
            nodes=info.world_size,
        )

    def workers_started(self) -> None:
        """Note the workers, and take samples of them from now on."""
        workers = self._workers or self._group.workers
        pids = {each.global_rank: each.id for each in workers if isinstance(each.id, int)}
        self._put("running", ranks=sorted(pids), local_ranks=[each.local_rank for each in workers])
        self._recorder.watch(pids, is_due=self._past is not None)

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Note the end of a round, or that this node waits for the others."""
        if step is Step.WAIT_FOR_OTHERS and not self._is_waiting:
            self._is_waiting = True
            self._put("waiting")
        if step not in END_STEPS:
            return
        self._put(
            "ended",
            at,
            then=END_STEPS[step],
            verdict=None if verdict is None else verdict.kind.value,
            by=None if verdict is None else verdict.by,
            reason="" if verdict is None else verdict.reason[:MOST_CHARS],
            delay_s=delay_of(verdict) if step is Step.RESTART else 0.0,
        )

    def workers_ended(self, result: RunResult) -> None:
        """Note which workers of this node failed; take no more samples of them."""
        self._recorder.watch({})
        if result.failures:
            exits = {rank: failure.exitcode for rank, failure in result.failures.items()}
            self._put("failed", exits=exits)

    def places(self, why: str, found: Mapping[int, Whereabouts]) -> bool:
        """Note that somebody asked where the ranks are; the report has the stacks."""
        self._put("places", why=why, ranks={rank: each.place for rank, each in found.items()})
        return False

    def finish(self, state: str, exit_code: int, reason: str) -> None:
        """Note how the job ended on this node, and wait a little until all is written."""
        self._recorder.watch({})
        self._put("end", state=state, exit_code=exit_code, reason=reason[:MOST_CHARS])
        self._recorder.close(SETTLE_S)

    def _put(self, event: str, at: Moment | None = None, **about: Any) -> None:
        moment = at or self._past or Moment.now()
        at_s = round(moment.on_clock_of(self._began_at), 3)
        self._recorder.put("event", {"at": at_s, "event": event, **about})
