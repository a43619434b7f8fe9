"""Ends an attempt in which no rank goes on (``--hang-timeout``), and names the odd one out.

What counts as going on:

- With ``--hang-log-pattern``, a line of output that matches, on any rank.
- Else, once any rank has called ``elrun.heartbeat()``, further calls on any rank, and nothing else:
  a wait for peers may use a whole CPU, so that CPU time tells nothing.
- Else CPU time of a worker or of what it has started, from one per cent of a CPU on, and whatever
  they write.

One rank that goes on keeps the job, on whichever node it is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager

from ...rendezvous.logs import Log
from ..failures.failure import HANG, ProcessFailure
from ..processes.companion import Companion, Trouble, Wakes
from ..workers.heartbeat import VARIABLE
from .hang_votes import Answer, Votes, decision_about
from .signs_of_life import BeatCell, PatternWatch, Usage, has_gone_on, usage_of
from .whereabouts import REQUEST_DUMP_S, whereabouts, with_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ...rendezvous.api.handler import RendezvousInfo
    from ..failures.stack_places import Standing, Whereabouts
    from ..processes.context import PContext
    from ..workers.worker import WorkerGroup

log = Log(__name__)

_LOOKS_PER_TIMEOUT = 8
_MOST_S_BETWEEN_LOOKS = 15.0
_EXIT_CODE = 1


class HangWatch(Companion):
    """Looks at the workers of one node, eight times within the time-out or every 15 s.

    Args:
        timeout_s: For how long no rank has to go on.
        pattern: What a line of output has to match to count; None: other signs count.
        wake: Wakes the agent's loop, from any thread.
        keep: Keeps whole stacks; returns what to say of where they are.
        read_usage: Returns what a worker has used.
    """

    def __init__(
        self,
        timeout_s: float,
        pattern: str | None,
        group: WorkerGroup,
        wake: Callable[[], None],
        keep: Callable[[Mapping[int, Whereabouts], PContext], str],
        read_usage: Callable[[int], Usage] = usage_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._group = group
        self._wake = wake
        self._keep = keep
        self._read_usage = read_usage
        self._clock = clock
        self._pattern = None if pattern is None else PatternWatch(pattern)
        self._cell: BeatCell | None = None
        if self._pattern is None:
            try:
                self._cell = BeatCell()
            except OSError as error:
                log.warning("elrun.heartbeat() is not heard: %s", error.strerror)
        self._workers: PContext | None = None
        self._votes: Votes | None = None
        self._info: RendezvousInfo | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._sign_at = self._next_look_at = self._clock()
        self._usages: dict[int, Usage] = {}
        self._has_beaten = self._others_beat = self._is_over = self._has_matched = False
        self._standings: dict[int, Standing] | None = None
        self._stacks: Mapping[int, Whereabouts] = {}

    def environment(self) -> dict[str, str]:
        """Return where workers leave their beats."""
        return {} if self._cell is None else {VARIABLE: self._cell.path}

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Take note of the round."""
        self._info = info

    def begin_attempt(self, workers: PContext) -> None:
        """Look at these workers from now on."""
        self._begin_anew()
        self._workers = workers
        if self._cell is not None:
            self._cell.take()
        info = self._info
        if info is not None and info.world_size > 1:
            if info.placement is None:
                log.warning("--hang-timeout: this rendezvous does not let nodes agree on a hang")
                self._is_over = True
            self._votes = Votes(info.store, info.rank, info.world_size, self._wake)
        if self._pattern is not None and not self._pattern.begin(workers):
            log.warning(
                "--hang-log-pattern: elrun does not see this output: give --tee 3 or --redirects 3"
            )
        self._usages = self._read_usages(workers)
        self._next_look_at = self._clock() + self._interval_s

    def end_attempt(self) -> None:
        """Look at no worker until the next attempt."""
        self._workers = self._votes = None

    def end(self) -> None:
        """Give the shared memory back."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.close()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let the body ask workers for their stacks: what that costs them is no sign of life."""
        workers = self._workers
        if workers is None or self._pattern is not None:
            yield
            return
        self._look(workers)
        yield
        self._usages |= self._read_usages(workers)

    def wakes(self) -> Wakes:
        """Return when to look next."""
        if self._workers is None or self._is_over:
            return Wakes()
        return Wakes(within_s=max(0.0, self._next_look_at - self._clock()))

    def tick(self) -> Trouble | None:
        """Look, if that is due; return the failure of the odd rank if the job hangs."""
        workers = self._workers
        if workers is None or self._is_over:
            return None
        answer = Answer() if self._votes is None else self._votes.take()
        self._others_beat = self._others_beat or answer.others_beat
        late_s = self._clock() - self._next_look_at
        if late_s >= 0:
            if late_s > self._interval_s:  # this process was stopped; perhaps all of them were
                self._sign_at += late_s
            self._look(workers)
            self._conclude(workers)
            if self._votes is None:
                answer = decision_about(self._standings or {})
        is_still = self._standings is not None  # it may not be, by now
        return self._trouble(answer, workers) if answer.odd >= 0 and is_still else None

    @property
    def _interval_s(self) -> float:
        return min(self._timeout_s / _LOOKS_PER_TIMEOUT, _MOST_S_BETWEEN_LOOKS)

    def _look(self, workers: PContext) -> None:
        """Look for a sign of life since the last look."""
        now = self._clock()
        if self._has_sign(workers, now):
            self._sign_at = now
            self._usages = self._read_usages(workers)
            self._standings = None

    def _has_sign(self, workers: PContext, now: float) -> bool:
        if self._pattern is not None:
            has_matched = self._pattern.take()
            self._has_matched = self._has_matched or has_matched
            return has_matched
        if self._cell is not None and self._cell.take():
            self._has_beaten = True
            return True
        if self._has_beaten or self._others_beat:
            return False
        current = self._read_usages(workers)
        return current.keys() != self._usages.keys() or any(
            has_gone_on(self._usages[pid], each, now - self._sign_at)
            for pid, each in current.items()
        )

    def _conclude(self, workers: PContext) -> None:
        """Find out where the ranks are if they are still; let the other nodes know."""
        now = self._clock()
        is_still = now - self._sign_at >= self._timeout_s
        if is_still and self._standings is None:
            self._standings = self._find_standings(workers)
        if self._votes is not None:
            self._votes.ask(self._standings, is_beating=self._has_beaten)
        left_s = self._timeout_s - (now - self._sign_at)
        within_s = self._interval_s if is_still else min(self._interval_s, left_s)
        self._next_look_at = self._clock() + max(within_s, 0.01)

    def _find_standings(self, workers: PContext) -> dict[int, Standing]:
        rank_of = {each.local_rank: each.global_rank for each in self._group.workers}
        pids = {rank_of[at]: pid for at, pid in workers.running_pids().items()}
        found = whereabouts(pids, REQUEST_DUMP_S)
        self._stacks = with_children(found, REQUEST_DUMP_S)
        self._usages |= self._read_usages(workers)  # to answer is no sign of life
        return {rank: each.standing for rank, each in self._stacks.items()}

    def _trouble(self, answer: Answer, workers: PContext) -> Trouble | None:
        where = self._keep(self._stacks, workers)
        local_of = {each.global_rank: each.local_rank for each in self._group.workers}
        log.warning("no rank goes on: %s%s", answer.text, where)
        local_rank = local_of.get(answer.odd)
        if local_rank is None:  # its node reports it
            return None
        self._is_over = True
        option = "--hang-timeout"
        if self._pattern is not None and not self._has_matched:
            option += (
                f"; no line on this node has matched --hang-log-pattern {self._pattern.text!r}"
            )
        sentence = f"no rank has gone on for {self._timeout_s:g} s ({option}): {answer.text}"
        workers.mark_failed(local_rank, sentence)
        failure = ProcessFailure(local_rank, workers.pids().get(local_rank, 0), _EXIT_CODE, "")
        stack = self._stacks[answer.odd].stack if answer.odd in self._stacks else ""
        extra = {"py_callstack": stack, "timestamp": str(failure.timestamp), "cause": HANG}
        failure.message = {"message": sentence, "extraInfo": extra}
        return Trouble(sentence, {local_rank: failure})

    def _read_usages(self, workers: PContext) -> dict[int, Usage]:
        if self._has_beaten or self._others_beat or self._pattern is not None:
            return {}
        return {pid: self._read_usage(pid) for pid in workers.running_pids().values()}
