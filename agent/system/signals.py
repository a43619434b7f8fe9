"""Signals that end the job, received without interrupting what the agent is doing.

A handler only notes the signal and wakes the agent's loop; the loop raises ``SignalException`` at
a place of its own choosing. The first signal stops the workers within the shutdown time-out.

What follows the first signal is rarely a wish to hurry. SLURM sends SIGTERM twice within
milliseconds, a closing terminal adds SIGHUP, and a Ctrl-C reaches the whole process group and is
often forwarded by a wrapper as well. Only a person sends SIGINT (Ctrl-C) or SIGQUIT once more a
moment later: ``is_urgent`` says so, ``urgency`` becomes readable, and the workers are killed at
once. Any other signal changes nothing.

SIGUSR2 asks where the workers are, unless it is one of the signals that end the job or the program
handles it itself. ``take_request`` says so once.

The end of a child wakes the loop as well, unless the program handles that itself: orphans that the
agent has adopted end without a word to anybody else, and are to be reaped.

Python calls a handler in the midst of another one, of the same signal as well. So a handler returns
at once if what it would note is noted already: else signals that come faster than it ends would
call it within itself until the stack is full, and the job would end by that.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from ...rendezvous.errors import ElrunError
from ...rendezvous.logs import Log
from .pidfd import NEVER
from .wakeup import Urgency, Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import FrameType, TracebackType
    from typing import Any

    from typing_extensions import Self

    Handler = Callable[[int, FrameType | None], None]
    """What Python calls at a signal, with its number."""

log = Log(__name__)


DEFAULT_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"

HURRY_AFTER_S = 0.5
"""How long after the first signal a Ctrl-C counts as another one, and not as its echo."""

REQUEST = signal.SIGUSR2
"""Asks where the workers are."""

_OF_A_PERSON = (signal.SIGINT, signal.SIGQUIT)

_UNFIT = {
    **dict.fromkeys((signal.SIGKILL, signal.SIGSTOP), "can't be handled by any process"),
    signal.SIGCHLD: "comes with the end of each worker, and would end every job",
    **dict.fromkeys(
        (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        "tells of a crash of elrun itself, after which it can't stop anything in order",
    ),
}


class SignalException(ElrunError):
    """The agent was told to stop by a signal.

    Args:
        msg: What happened.
        sigval: The signal.
    """

    def __init__(self, msg: str, sigval: signal.Signals) -> None:
        super().__init__(msg)
        self.sigval = sigval


class TimeIsUp(SignalException):
    """The job has had the time that its user gave it; the workers are ended as by SIGTERM.

    Args:
        limit_s: That time in seconds.
    """

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the job's time is up (--timeout {limit_s:g})", signal.SIGTERM)
        self.limit_s = limit_s


class StopRequested(SignalException):
    """`elrun stop` has stopped the job: to its workers and to scripts, as SIGTERM does.

    Args:
        is_now: Whether the workers are to be killed at once.
    """

    def __init__(self, msg: str, *, is_now: bool) -> None:
        super().__init__(msg, signal.SIGTERM)
        self.is_now = is_now


class Preempted(SignalException):
    """The job ends so that it can run again later: ``--preempt-signal`` came, to whichever node.

    Args:
        sigval: The signal.
        node: The host that it came to.
        is_local: Whether it came to this process.

    Attributes:
        failures: How workers of this node ended that did not leave in order, a sentence each.
        group_rank: This node's rank; None: it is in no round.
        has_all_left: Whether the node of rank 0 has said that the workers of all nodes have left,
            so that it lives; also True on a spare, for which the round's nodes speak.
        ends_at: Until when workers of other nodes may still leave, by ``time.monotonic()``.
    """

    def __init__(self, sigval: signal.Signals, node: str, *, is_local: bool = True) -> None:
        super().__init__(f"preempted by {sigval.name} on {node}", sigval)
        self.node = node
        self.is_local = is_local
        self.failures: tuple[str, ...] = ()
        self.group_rank: int | None = None
        self.has_all_left = False
        self.ends_at = 0.0


def parse_signals(names: str) -> tuple[signal.Signals, ...]:
    """Return the signals of a list of names such as ``SIGTERM,SIGUSR1``.

    Raises:
        ValueError: A name is no signal, or that of one which can't be taken as a wish to stop.
    """
    found = []
    for name in filter(None, (part.strip().upper() for part in names.split(","))):
        try:
            number = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        except KeyError:
            raise ValueError(f"{name} is no signal of this system") from None
        if number in _UNFIT:
            raise ValueError(f"{number.name} {_UNFIT[number]}")
        found.append(number)
    return tuple(dict.fromkeys(found))


def is_urgent(number: int, since_first_s: float) -> bool:
    """Return whether a signal after the first one means that the workers are to be killed at once.

    Args:
        number: The further signal.
        since_first_s: Seconds between the first signal and this one.
    """
    return number in _OF_A_PERSON and since_first_s >= HURRY_AFTER_S


class SignalInbox:
    """Collects the job's ending signals while it is entered as a context, which nests.

    Args:
        names: Comma-separated names of the signals to take.
        wake: What to notify when one arrives; closed at the end, when no signal writes to it.
        clock: A monotonic clock, in seconds.
        handler_afterwards: What handles the signals that were taken from their default or from
            another handler, once the context is left; by default what handled them before.
        passed_on: Signals that are the workers': they are kept for ``take_passed_on``.
        limit_s: After how many seconds the job ends as if SIGTERM had come; None: never.
        preempting: The signals for which ``raise_if_any`` raises ``Preempted``.
    """

    def __init__(
        self,
        names: str,
        wake: Wakeup,
        clock: Callable[[], float] = time.monotonic,
        handler_afterwards: Handler | None = None,
        passed_on: Collection[signal.Signals] = (),
        limit_s: float | None = None,
        preempting: Collection[signal.Signals] = (),
    ) -> None:
        self._signals = [each for each in parse_signals(names) if each not in preempting]
        self._preempting = preempting
        self.is_preempted = False
        """Whether the first signal was a preempting one, of this process."""
        self._passed_on = passed_on
        self._came: dict[int, float] = {}
        self._wake = wake
        self._clock = clock
        self._handler_afterwards = handler_afterwards
        self._urgency = Urgency()
        self._first: tuple[signal.Signals, float] | None = None
        self._limit_s = limit_s
        self._late: TimeIsUp | None = None
        self._time_is_up_at = NEVER if limit_s is None else clock() + limit_s
        self._taken = False
        self._is_requested = False
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_fd = -1
        self._depth = 0
        self._is_asked = False
        self.answer_aside: Callable[[], None] | None = None
        """Called, by the main thread in the midst of anything, when a request comes; None: the
        loop is told of it."""

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            self._take()
        return self

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            log.warning(
                "signals are not handled: elrun was started from a thread that is not the main "
                "one; if this process is killed, the guardian ends the workers"
            )
            return
        for number in self._signals:
            current = signal.getsignal(number)
            if number is signal.SIGHUP and current is signal.SIG_IGN:
                continue  # nohup asked for just this
            self._previous[number] = current
            signal.signal(number, self._note)
        for number in self._preempting:
            self._previous[number] = signal.signal(number, self._note_preempting)
        for number in self._passed_on:
            self._previous[number] = signal.signal(number, self._note_passed_on)
        current = signal.getsignal(REQUEST)
        is_own_program = self._handler_afterwards is not None and current is not signal.SIG_IGN
        if REQUEST not in self._previous and (current is signal.SIG_DFL or is_own_program):
            self._previous[REQUEST] = current
            signal.signal(REQUEST, self._note_request)
        if signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, signal.SIG_IGN):
            self._previous[signal.SIGCHLD] = signal.SIG_DFL  # ignored, it would lose exit codes
            signal.signal(signal.SIGCHLD, self._wake_only)
        if self._previous:
            # The handler in C writes here at once; Python's runs only when the main thread gets
            # round to it, which a wait that has just begun would put off to its end.
            fd = self._wake.notify_fd
            self._previous_fd = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        if self._previous:
            signal.set_wakeup_fd(self._previous_fd)
            for number, previous in self._previous.items():
                signal.signal(number, self._next_handler(number, previous))
            self._previous.clear()
        self._urgency.close()
        self._wake.close()

    def _next_handler(self, number: signal.Signals, previous: Any) -> Any:
        if self._handler_afterwards is None or previous is signal.SIG_IGN:
            return signal.SIG_DFL if previous is None else previous
        if number in self._passed_on:  # there are no workers any more
            return signal.SIG_IGN
        return previous if number in (signal.SIGCHLD, REQUEST) else self._handler_afterwards

    @property
    def urgency(self) -> Urgency:
        """Readable once a further signal has come that `is_urgent`, or `elrun stop --now`."""
        return self._urgency

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that ``raise_if_any`` has raised for; None: there was none yet."""
        return self._first[0] if self._first is not None and self._taken else None

    @property
    def why_stopped(self) -> str:
        """What has stopped the job if no signal has; "" for a signal, whose name says it."""
        if self._is_requested:
            return "`elrun stop`"
        return "" if self._late is None else str(self._late)

    @property
    def first_at(self) -> float:
        """When the first signal came, or the job's time will be up; ``inf``: neither."""
        return self._time_is_up_at if self._first is None else self._first[1]

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the job's time is up; None: it has no limit, or is being stopped."""
        if self._limit_s is None or self._first is not None:
            return None
        return max(0.0, self._time_is_up_at - self._clock())

    def heeds(self, number: int) -> bool:
        """Return whether a signal is handled here."""
        return number in self._previous

    def take_passed_on(self) -> list[tuple[signal.Signals, float]]:
        """Return, once, the signals that are the workers', and when by the clock each has come."""
        came, self._came = self._came, {}
        return [(signal.Signals(number), at) for number, at in came.items()]

    @property
    def is_asked(self) -> bool:
        """Whether ``take_request`` would return True."""
        return self._is_asked

    def take_request(self) -> bool:
        """Return, once, whether it has been asked where the workers are."""
        if not self._is_asked:
            return False
        self._is_asked = False  # one that comes just now is answered with this one
        return True

    def request_stop(self, *, now: bool = False, is_known: bool = False) -> None:
        """Stop the job as a signal would; any thread may do so.

        Args:
            now: Whether the workers are to be killed at once, also those that are being stopped.
            is_known: Whether the loop knows, so that ``raise_if_any`` need not raise for it.
        """
        if self._first is None:
            self._is_requested, self._taken = True, is_known
            self._first = signal.SIGTERM, self._clock()
        if now:
            self._urgency.declare("`elrun stop --now` came")
        self._wake.notify()

    def has_any(self) -> bool:
        """Return whether ``raise_if_any`` would raise."""
        if self._limit_s is not None and self.time_left_s == 0:
            self._first, self._late = (signal.SIGTERM, self._clock()), TimeIsUp(self._limit_s)
        return self._first is not None and not self._taken

    def begin_preemption(self, number: signal.Signals) -> None:
        """Take note that the job ends by a signal to another node: none raises any more."""
        if self._first is None:
            self._first = number, self._clock()
        self._taken = True

    def raise_if_any(self) -> None:
        """Raise for the first signal, once.

        Raises:
            SignalException: A signal came since the last call.
            TimeIsUp: The job's time is up.
        """
        if not self.has_any() or self._first is None:
            return
        self._taken = True
        first, _ = self._first
        if self._late is not None:
            raise self._late
        if self._is_requested:
            node = os.uname().nodename
            sentence = f"the job was stopped by `elrun stop` on {node}"
            raise StopRequested(sentence, is_now=bool(self._urgency.reason))
        if self.is_preempted:
            raise Preempted(first, os.uname().nodename)
        raise SignalException(f"elrun was stopped by {first.name}", first)

    def _wake_only(self, _number: int, _frame: FrameType | None) -> None:
        """Do nothing: Python's own handler has written to the wakeup's descriptor."""

    def _note_passed_on(self, number: int, _frame: FrameType | None) -> None:
        if number not in self._came:  # of one kind the kernel keeps one, too
            self._came[number] = self._clock()
            self._wake.notify()

    def _note_request(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._wake.notify()
            if self.answer_aside is not None:
                self.answer_aside()

    def _note_preempting(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first, self.is_preempted = (signal.Signals(number), self._clock()), True
            self._wake.notify()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first = signal.Signals(number), self._clock()
            self._wake.notify()
        elif (
            not self._urgency.reason
            and number in _OF_A_PERSON
            and is_urgent(number, self._clock() - self._first[1])
        ):
            self._urgency.declare("another Ctrl-C (SIGINT or SIGQUIT) came")
            self._wake.notify()
