"""Gets ready for a failure before there is one, so that a restart loads nothing.

A start does not need the modules of failures, and most jobs never do. They wait until the workers
have lived for a moment: they import then, and the agent's few milliseconds delay nobody.
"""

from __future__ import annotations

import contextlib
import sys
import time
from importlib import import_module

from ..processes.companion import Companion, Wakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..processes.companion import Trouble
    from ..processes.context import PContext

_OF_FAILURES = (
    "logging",
    "..output.log_handler",
    "..system.left_files",
    "..processes.left_records",
    "..failures.error_record",
    "json",
    ".failed_attempt",
    "..failures.shortening",
    "..failures.restart_rules",
    "..processes.own_ends",
    "..output.carrying",
    "..failures.machine_facts",
    "..processes.stop_notice",
    ".agreement",
    ".outcomes",
    ".places",
)
"""What every restart needs comes first: a worker may fail before all is there."""

LIVED_S = 0.25
"""How long workers have lived when it is time to get ready for their failure."""

SLICE_S = 0.005
"""How long that may hold up the loop at a time: a worker that fails meanwhile waits no longer."""

_A_TRACEBACK = """\
Traceback (most recent call last):
  File "a", line 1, in f
    g()
ValueError: no
"""
_SOME_LAST_WORDS = (
    "it died",
    "goodbye\n",
    "Traceback (most recent call last):\nValueError: no",
    'Fatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n  File "a", line 1 in f',
    "terminate called after throwing an instance of 'int'\n  what():  no",
)
"""Between them they are compared with each pattern of those that a failure is explained by."""


def load_for_failures() -> Iterator[None]:
    """Load what a failed attempt, the decision about it, a stop, and the first log line need.

    What the job's end may need besides is kept as it is on disk now: it may be replaced meanwhile.

    Yields:
        Between two steps, each of which takes milliseconds.
    """
    for name in _OF_FAILURES:
        import_module(name, __package__)
        yield
    yield from _compile_patterns()
    from ..system.kept_modules import keep_for_later
    from .late_modules import NEEDED_AT_THE_END, unneeded

    yield from keep_for_later(NEEDED_AT_THE_END, unneeded(sys.modules))


def _compile_patterns() -> Iterator[None]:
    """Compile what last words are searched for: ``re`` keeps a pattern from its first use on."""
    from ..failures.advice import topic_of
    from ..failures.last_words import last_words_in, tells_of_another_process
    from ..failures.shortening import shortened_traceback
    from ..failures.traceback_place import innermost_place

    for words in _SOME_LAST_WORDS:
        last_words_in(words)
        yield
    innermost_place(_A_TRACEBACK)
    shortened_traceback(_A_TRACEBACK, "")
    yield
    topic_of("")
    tells_of_another_process("")
    yield


class _OnceLived(Companion):
    """Has something to do once the workers of an attempt have lived for a moment.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_at: float | None = None

    def begin_attempt(self, workers: PContext | None = None) -> None:
        """Leave the CPUs to the workers' start."""
        self._due_at = self._clock() + LIVED_S

    def wakes(self) -> Wakes:
        """Return when it is time, if something is to be done."""
        if self._due_at is None:
            return Wakes()
        return Wakes(within_s=max(0.0, self._due_at - self._clock()))

    def tick(self) -> Trouble | None:
        """Do it, if it is time."""
        if self._due_at is not None and self._clock() >= self._due_at and not self._has_more():
            self._due_at = None
        return None

    def end_attempt(self) -> None:
        """Do nothing beside the start of the next attempt: it is put off until that has begun."""
        self._due_at = None

    def _has_more(self) -> bool:
        """Work for a moment; return whether more is to be done as soon as the loop comes back."""
        raise NotImplementedError


class Readiness(_OnceLived):
    """Gets ready for the failure of an attempt that lives for a moment, once.

    Args:
        load: Returns the steps of that; a failure between two of them interrupts it.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        load: Callable[[], Iterator[object]] = load_for_failures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._steps: Iterator[object] | None = load()

    def begin_attempt(self, workers: PContext | None = None) -> None:
        """Let the workers live for a moment first, if something is left to load."""
        if self._steps is not None:
            super().begin_attempt(workers)

    def _has_more(self) -> bool:
        until = self._clock() + SLICE_S
        # A failure loads them, or says why; a file may be half written while elrun is replaced.
        with contextlib.suppress(OSError, ImportError, SyntaxError):
            if any(self._clock() >= until for _ in self._steps or ()):
                return True
        self._steps = None
        return False


class Afterwards(_OnceLived):
    """Does what nobody waits for, once new workers have lived for a moment: each attempt anew.

    Args:
        do: Does it, in a few milliseconds.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, do: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock)
        self._do = do

    def _has_more(self) -> bool:
        self._do()
        return False


class Late(Companion):
    """Stands for a companion that begins a while after the agent: jobs that end sooner need none.

    Args:
        begin: Begins it; may return None.
        add: Adds it to the others.
        after_s: How long after this moment.
    """

    def __init__(
        self,
        begin: Callable[[], Companion | None],
        add: Callable[[Companion], None],
        after_s: float,
    ) -> None:
        self._begin = begin
        self._add = add
        self._due_at: float | None = time.monotonic() + after_s
        self._workers: PContext | None = None

    def begin_attempt(self, workers: PContext) -> None:
        self._workers = workers

    def end_attempt(self) -> None:
        self._workers = None

    def wakes(self) -> Wakes:
        if self._due_at is None:
            return Wakes()
        return Wakes((), max(0.0, self._due_at - time.monotonic()))

    def tick(self) -> None:
        if self._due_at is None or time.monotonic() < self._due_at:
            return
        self._due_at = None
        companion = self._begin()
        if companion is not None:
            self._add(companion)
            if self._workers is not None:
                companion.begin_attempt(self._workers)
