"""Signals that end the job, received without interrupting what the agent is doing.

A handler only notes the signal and wakes the agent's loop; the loop raises ``SignalException`` at
a place of its own choosing. The first signal stops the workers within the shutdown time-out, every
further one makes ``urgent_fd`` readable, upon which whoever is stopping workers kills them at once.

The end of a child wakes the loop as well, unless the program handles that itself: orphans that the
agent has adopted end without a word to anybody else, and are to be reaped.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from .wakeup import Wakeup

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

DEFAULT_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"

_UNFIT = {
    **dict.fromkeys((signal.SIGKILL, signal.SIGSTOP), "can't be handled by any process"),
    signal.SIGCHLD: "comes with the end of each worker, and would end every job",
    **dict.fromkeys(
        (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        "tells of a crash of elrun itself, after which it can't stop anything in order",
    ),
}


class SignalException(Exception):  # noqa: N818  the seeds' name
    """The agent was told to stop by a signal.

    Args:
        msg: What happened.
        sigval: The signal.
    """

    def __init__(self, msg: str, sigval: signal.Signals) -> None:
        super().__init__(msg)
        self.sigval = sigval


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


class SignalInbox:
    """Collects the job's ending signals while it is entered as a context.

    Args:
        names: Comma-separated names of the signals to take.
        wake: What to notify when one arrives.
    """

    def __init__(self, names: str, wake: Wakeup) -> None:
        self._signals = parse_signals(names)
        self._wake = wake
        self._urgent = Wakeup()
        self._received: list[signal.Signals] = []
        self._taken = False
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_fd = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            log.warning(
                "signals are not handled: elrun was started from a thread that is not the main "
                "one; if this process is killed, the guardian ends the workers"
            )
            return self
        for number in self._signals:
            current = signal.getsignal(number)
            if number is signal.SIGHUP and current is signal.SIG_IGN:
                continue  # nohup asked for just this
            self._previous[number] = current
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, signal.SIG_IGN):
            self._previous[signal.SIGCHLD] = signal.SIG_DFL  # ignored, it would lose exit codes
            signal.signal(signal.SIGCHLD, self._wake_only)
        if self._previous:
            # The handler in C writes here at once; Python's runs only when the main thread gets
            # round to it, which a wait that has just begun would put off to its end.
            fd = self._wake.notify_fd
            self._previous_fd = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous:
            signal.set_wakeup_fd(self._previous_fd)
            for number, handler in self._previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._previous.clear()
        self._urgent.close()

    @property
    def urgent_fd(self) -> int:
        """Readable once a further signal has come after the first."""
        return self._urgent.fileno()

    def has_any(self) -> bool:
        """Return whether ``raise_if_any`` would raise."""
        return bool(self._received) and not self._taken

    def raise_if_any(self) -> None:
        """Raise for the first signal, once.

        Raises:
            SignalException: A signal came since the last call.
        """
        if not self.has_any():
            return
        self._taken = True
        first = self._received[0]
        raise SignalException(f"elrun was stopped by {first.name}", first)

    def _wake_only(self, _number: int, _frame: FrameType | None) -> None:
        self._wake.notify()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(signal.Signals(number))
        self._wake.notify()
        if len(self._received) > 1:
            self._urgent.notify()
