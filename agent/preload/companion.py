"""The preload server as the agent's loop meets it: begun with the agent, ready when it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ...rendezvous.api.handler import RendezvousInfo
from ...rendezvous.logs import Log
from ..processes.companion import Companion, Wakes
from ..processes.context import PContext
from ..processes.executor import Executor, StartWait
from ..processes.guardian import Guardian
from ..system.environ import inherited_environment
from ..workers.environment import shared_environment
from ..workers.worker import WorkerSpec
from .executor import PreloadedExecutor
from .preload import AUTO, Preloading, begin_preloading

log = Log(__name__)

FORK_AFTER_S = 1.5
"""How long workers have lived when their successors are forked: they are busy at first."""

NOTICE_S = 5.0
"""For how long modules hold up the start of workers before a line says so."""


class PreloadServer(Companion):
    """What an agent forks its workers from.

    Args:
        preloading: The process that has imported the modules, or will have; None: there is none
            yet.
        workers: How many workers this node has.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        preloading: Preloading | None,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.preloading = preloading
        self._workers = workers
        self._clock = clock
        self._is_settled = False
        self._is_last = False
        self._fork_at: float | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the modules are imported, or won't be, as of the last tick."""
        return self._is_settled

    def executor(self) -> Executor:
        """Return what forks workers as far as possible, and executes the others."""
        return PreloadedExecutor(self.preloading)

    def hold_start(self, wait: Callable[[float | None], object]) -> None:
        """Wait until the modules are imported, or won't be; if that takes long, say so once.

        Args:
            wait: Waits, so many seconds at most, and has ``tick`` called; None: for any time.
        """
        notice_at: float | None = self._clock() + NOTICE_S
        while not self.is_settled:
            if notice_at is not None and self._clock() >= notice_at:
                notice_at = None
                self._say_what_holds_the_start()
            wait(None if notice_at is None else max(0.0, notice_at - self._clock()))

    def _say_what_holds_the_start(self) -> None:
        if (preloading := self.preloading) is None:
            return
        from ..system.process_states import describe_state  # few imports take so long

        left_s = preloading.patience_left_s()
        log.warning(
            "workers do not start yet: process %d has not finished importing %s (--preload)%s%s",
            preloading.pid,
            ", ".join(preloading.modules) or AUTO,
            f"; it is {state}" if (state := describe_state(preloading.pid)) else "",
            "" if left_s is None else f"; they start without that in {left_s:.0f} s",
        )

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Take note whether there may be a next attempt."""
        self._is_last = is_last

    def begin_attempt(self, workers: PContext | None = None) -> None:
        """Let the workers live for a while before their successors are forked."""
        if not self._is_last:
            self._fork_at = self._clock() + FORK_AFTER_S
        elif self.preloading is not None:
            self.preloading.waiting.keep(0)
            self.preloading.waiting.dismiss()

    def wakes(self) -> Wakes:
        """Return when modules may be imported, and when there is anything to do with forks."""
        preloading, at = self.preloading, self._fork_at
        if preloading is None:
            return Wakes()
        if not self._is_settled:
            return Wakes(preloading.filenos(), preloading.patience_left_s())
        within_s = None if at is None else max(0.0, at - self._clock())
        return Wakes(preloading.waiting.filenos(), within_s)

    def tick(self) -> None:
        """Look whether the modules are imported; fork workers of the next attempt."""
        preloading = self.preloading
        if preloading is None:
            return
        self._is_settled = preloading.is_settled()
        self._fork_successors(preloading)

    def _fork_successors(self, preloading: Preloading) -> None:
        if self._fork_at is not None and self._clock() >= self._fork_at:
            self._fork_at = None
            preloading.waiting.keep(self._workers)
        preloading.waiting.tick()

    def hurry(self) -> None:
        """Take note that the workers are asked to end, since other ones are to follow."""

    def end_attempt(self) -> None:
        """Fork nothing beside the start of the next attempt, whose workers may be there already."""
        self._fork_at = None
        if self.preloading is not None:
            self.preloading.waiting.keep(0)
            self.preloading.waiting.call()

    def end(self) -> None:
        """End the process, and the workers that wait; those that have begun stay."""
        if self.preloading is not None:
            self.preloading.close()


def begin_preload_server(
    modules: Sequence[str],
    spec: WorkerSpec,
    start_method: str,
    environ: Mapping[str, str],
    more: Mapping[str, str],
    guardian: Guardian,
    start_wait: StartWait,
) -> PreloadServer | None:
    """Start a preload server for the workers to come; where there can be none, warn.

    Args:
        start_method: How functions get into new processes.
        more: What companions add to the workers' environment.
        start_wait: How the agent waits until the server's program is loaded.
    """
    if spec.entrypoint is None:
        return None
    entrypoint, args = spec.entrypoint, spec.args_of(0)
    environment = {
        **inherited_environment(),
        **shared_environment(spec.local_world_size, environ),
        **more,
    }

    def begin(names: Sequence[str]) -> Preloading | None:
        return begin_preloading(
            names, entrypoint, args, start_method, environment, guardian, start_wait
        )

    named = [name for name in modules if name != AUTO]
    preloading = begin(named) if named else None
    if AUTO in modules and spec.max_restarts and (preloading is not None or not named):
        from .learning import LearningServer  # few jobs

        return LearningServer(preloading, begin, environment, spec.local_world_size)
    return None if preloading is None else PreloadServer(preloading, spec.local_world_size)
