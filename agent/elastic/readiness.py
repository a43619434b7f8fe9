"""Loads what a failure needs before there is one, so that a restart loads nothing.

A start does not need these modules, and most jobs never do. They are loaded once, a second after
the workers were started: they import then, and the agent's few milliseconds delay nobody.
"""

from __future__ import annotations

import contextlib
import time

from ..processes.companion import Companion, Wakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..processes.companion import Trouble
    from ..processes.context import PContext

LIVED_S = 1.0
"""How long workers have lived when it is time to get ready for their failure."""


def load_for_failures() -> None:
    """Load what a failed attempt, the decision about it, and the first log line need."""
    import logging  # noqa: F401, PLC0415  the purpose of this module

    from ..failures import error_record, restart_rules  # noqa: F401, PLC0415
    from ..output import carrying, log_handler  # noqa: F401, PLC0415
    from ..processes import own_ends  # noqa: F401, PLC0415
    from ..system import left_files  # noqa: F401, PLC0415
    from . import failed_attempt  # noqa: F401, PLC0415


class Readiness(Companion):
    """Loads the modules of failures behind the first attempt that lives for a second.

    Args:
        load: Loads them.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        load: Callable[[], None] = load_for_failures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._clock = clock
        self._due_at: float | None = None
        self._has_loaded = False

    def begin_attempt(self, workers: PContext | None = None) -> None:  # noqa: ARG002  any will do
        """Let the workers live for a second first."""
        if not self._has_loaded:
            self._due_at = self._clock() + LIVED_S

    def wakes(self) -> Wakes:
        """Return when it is time to load, if it ever is."""
        if self._due_at is None:
            return Wakes()
        return Wakes(within_s=max(0.0, self._due_at - self._clock()))

    def tick(self) -> Trouble | None:
        """Load, if it is time."""
        if self._due_at is not None and self._clock() >= self._due_at:
            self._due_at, self._has_loaded = None, True
            with contextlib.suppress(OSError, ImportError):  # a failure loads them, or says why
                self._load()
        return None

    def end_attempt(self) -> None:
        """Load nothing beside the start of the next attempt."""
        self._due_at = None
