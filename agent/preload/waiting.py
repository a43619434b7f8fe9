"""Workers of the next attempt, forked while this one runs: they wait for what they are to run.

To fork a process with torch in it takes milliseconds, for which the workers of a restart would wait
one after the other. So while an attempt runs, and restarts are left, its successors are forked, one
after the other, when nothing else is to be done. They run nothing of the script: what they are to
run, with which ranks, environment and descriptors, comes when the next attempt begins.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from ...rendezvous.logs import Log
from ..processes.guardian import Guardian
from ..processes.stop import KILL_WAIT_S
from .forked import ForkedProcess

if TYPE_CHECKING:
    from .preload import Preloading

log = Log(__name__)


class WaitingWorkers:
    """The workers of the next attempt.

    Args:
        guardian: The agent's guardian, which kills them if the agent is killed.
    """

    def __init__(self, preloading: Preloading, guardian: Guardian) -> None:
        self._preloading = preloading
        self._guardian = guardian
        self._wanted = 0
        self._asked: ForkedProcess | None = None
        self._is_unwanted = False
        self._greeted: ForkedProcess | None = None
        self._ready: list[ForkedProcess] = []

    def keep(self, count: int) -> None:
        """Say how many there are to be; ``tick`` has them forked, one after the other."""
        self._wanted = count

    @property
    def ready_count(self) -> int:
        """How many are there."""
        return len(self._ready)

    def dismiss(self) -> None:
        """Leave none of those that are there, or that will be by the next answer."""
        self._is_unwanted = self._asked is not None
        greeted, ready = self._greeted, self._ready
        self._greeted, self._ready = None, []
        self.discard(*ready, *([] if greeted is None else [greeted]))

    def filenos(self) -> list[int]:
        """Return what becomes readable when ``tick`` can go on."""
        if self._asked is not None:
            return self._preloading.answer_fds()
        return [] if self._greeted is None else [self._greeted.fileno()]

    def tick(self) -> None:
        """Go on with the next one, and wait for nothing."""
        if self._asked is not None and self._preloading.has_answered():
            self.settle()
        if self._greeted is not None:
            self._look_at(self._greeted)
        is_idle = self._asked is None and self._greeted is None
        if is_idle and len(self._ready) < self._wanted and self._preloading.is_usable:
            self._ask()

    def settle(self) -> None:
        """Take the answer to what was asked last, if anything was; wait for it."""
        asked, self._asked = self._asked, None
        is_unwanted, self._is_unwanted = self._is_unwanted, False
        if asked is None:
            return
        try:
            self._preloading.greet([asked])
        except OSError as error:
            asked.kill()
            self._leave_it(str(error))
            return
        if is_unwanted:
            self.discard(asked)
        else:
            self._greeted = asked

    def call(self) -> None:
        """Say that the next attempt begins: those that are still there answer meanwhile."""
        for each in self._ready:
            each.call()

    def take(self, numbers: Collection[int]) -> ForkedProcess | None:
        """Return one that is there, if there is any; it is the caller's from now on."""
        while self._ready and self._ready[0].has_room_for(numbers):
            first = self._ready.pop(0)
            if first.is_present():
                return first
            log.info("the worker with pid %d has not waited", first.process.pid)
            self.discard(first)
        return None

    def discard(self, *processes: ForkedProcess) -> None:
        """Kill processes that nothing was sent to, or not all of it."""
        for each in processes:
            each.kill()
        deadline = time.monotonic() + KILL_WAIT_S
        for each in processes:
            if each.is_known:
                self._guardian.forget(each.process.pid)
                each.await_end(deadline)

    def close(self) -> None:
        """Leave none; nothing is asked for any more."""
        asked, self._asked, self._wanted = self._asked, None, 0
        if asked is not None:
            asked.kill()
        self.dismiss()

    def _ask(self) -> None:
        asked = None
        try:
            asked = ForkedProcess()
            self._preloading.request([asked], (), waits=True)
        except OSError as error:
            if asked is not None:  # else there are no descriptors for its line
                asked.kill()
            self._leave_it(str(error))
        else:
            self._asked = asked

    def _look_at(self, greeted: ForkedProcess) -> None:
        is_ready = greeted.is_ready()
        if is_ready is None:
            self._greeted = None
            self.discard(greeted)
            self._leave_it("it has ended")
        elif is_ready:
            self._greeted = None
            self._guardian.watch_helper(greeted.process.pid, greeted.process.start)
            self._ready.append(greeted)

    def _leave_it(self, reason: str) -> None:
        self._wanted = 0
        log.info("no further worker waits for the next attempt: %s", reason)
