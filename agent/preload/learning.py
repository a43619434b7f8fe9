"""A preload server that learns from the first attempt what it imports for the next (``auto``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from ...rendezvous.api.handler import RendezvousInfo
from ...rendezvous.logs import Log
from ..processes.companion import Wakes
from ..processes.context import PContext
from ..processes.executor import Executor
from .companion import PreloadServer
from .executor import PreloadedExecutor
from .lessons import Learnt, Lessons
from .preload import Preloading

log = Log(__name__)

_BEGIN_S = 0.5
"""How long a process may take that begins to import only when an attempt has ended."""


class LearningServer(PreloadServer):
    """What an agent forks its workers from, once it knows what they import.

    Nothing of this takes time of the first start: workers report what they have imported, and a
    process imports the same while they run. If their attempt ends before that is done, the next one
    waits, but no longer than its workers would take to import that themselves. Where the workers
    leave no CPU, nothing is done by then: the process begins when the attempt has ended. While it
    has no CPU then either, its time does not count: workers would have none.

    Args:
        preloading: The process that imports what was named; None: nothing was.
        begin: Begins such a process; returns None where there can be none, after a warning.
        shared: What is in the environment of each worker.
        workers: How many workers this node has.
        clock: A monotonic clock, in seconds.

    Raises:
        OSError: There can be no more descriptors.
    """

    def __init__(
        self,
        preloading: Preloading | None,
        begin: Callable[[Sequence[str]], Preloading | None],
        shared: Mapping[str, str],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(preloading, workers, clock)
        self._begin = begin
        self._shared = shared
        self._lessons = Lessons(workers)
        self._pids: Collection[int] = ()
        self._learnt: list[Learnt] = []
        self._missing_s: dict[Learnt, float] = {}
        self._worth_until = 0.0
        self._waited_before_s = 0.0
        self._is_over = False
        self._is_beginning = False
        self._is_named_awaited = preloading is not None

    @property
    def is_settled(self) -> bool:
        """Whether no start is to wait any more."""
        if self._is_named_awaited:
            return super().is_settled
        return (
            not self._worth_left_s() or self._is_over or (super().is_settled and not self._learnt)
        )

    def _worth_left_s(self) -> float:
        """Return for how long the next attempt goes on waiting for imports."""
        waited_s = self._waited_s() - self._waited_before_s
        return max(0.0, self._worth_until + waited_s - self._clock())

    def _waited_s(self) -> float:
        return 0.0 if self.preloading is None else self.preloading.waited_s()

    def executor(self) -> Executor:
        """Return what starts workers, which report what they import if there may be restarts."""
        is_wanted = not (self._is_over or self._is_last)
        return PreloadedExecutor(self.preloading, self._lessons_for if is_wanted else None)

    def _lessons_for(self, environment: Mapping[str, str]) -> str:
        return self._lessons.settings(environment, self._shared)

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Take note whether there may be a next attempt, and that other workers report now."""
        super().prepare(info, is_last=is_last)
        self._lessons.forget_reporters()

    def begin_attempt(self, workers: PContext | None = None) -> None:
        """Take note of the workers; what they were not to wait for is waited for no more."""
        super().begin_attempt(workers)
        self._missing_s.clear()
        if workers is not None:
            self._pids = [*workers.pids().values()]

    def hurry(self) -> None:
        """Let what is being imported have the CPUs that the workers leave: the next ones wait."""
        if self.preloading is not None and not super().is_settled:
            self.preloading.hurry()

    def end_attempt(self) -> None:
        """Let what is being imported have the CPUs that the workers had."""
        super().end_attempt()
        self._pids = ()
        if self._missing_s:
            self._worth_until = self._clock() + _BEGIN_S + sum(self._missing_s.values())
            self._waited_before_s = self._waited_s()
        self.hurry()

    def wakes(self) -> Wakes:
        """Return, besides, what becomes readable when a worker has reported something."""
        wakes = super().wakes()
        times_s = [] if wakes.within_s is None else [wakes.within_s]
        if not (self._pids or self.is_settled):
            times_s.append(self._worth_left_s())
        fds = [*wakes.fds, *self._lessons.filenos()]
        return Wakes(fds, min(times_s, default=None))

    def tick(self) -> None:
        """Import what has been learnt, one piece after the other."""
        was_settled = self._is_settled
        for each, took_s in self._lessons.take(self._pids).items():
            self._learnt.append(each)
            self._missing_s[each] = took_s
        super().tick()
        preloading = self.preloading
        if preloading is not None and self._is_settled:
            self._is_named_awaited = False
            self._missing_s = {each: self._missing_s.get(each, 0.0) for each in self._learnt}
            if preloading.has_given_up:
                self._stop_learning()
            elif not was_settled:
                preloading.waiting.dismiss()  # they lack what has been imported
        is_last_running = self._is_last and self._pids
        if self._learnt and not (self._is_over or is_last_running):
            self._import_more()

    def _fork_successors(self, preloading: Preloading) -> None:
        if not self._learnt:  # they would lack it
            super()._fork_successors(preloading)

    def _import_more(self) -> None:
        if self.preloading is None:
            if self._is_beginning:  # the loop turns while the process is loaded
                return
            self._is_beginning = True
            self.preloading = self._begin(())
            self._is_beginning = False
            if self.preloading is None:
                self._stop_learning()
        elif super().is_settled:
            learnt, self._learnt = self._learnt, []
            log.info("to be imported for the next attempt: %s", ", ".join(m.name for m in learnt))
            asking, runs = self._lessons.asking, bool(self._pids)
            self.preloading.import_more(learnt, asking, out_of_the_way=runs)
            self._is_settled = False

    def _stop_learning(self) -> None:
        """Give back what can't be used."""
        self._is_over = True
        self._lessons.close()
        preloading, self.preloading = self.preloading, None
        if preloading is not None:
            preloading.close()

    def end(self) -> None:
        """End all."""
        super().end()
        self._lessons.close()
