"""Has ``faulthandler`` write a worker's stacks: at a crash to a file, at a request to a pipe.

It is loaded by its path, see ``sitecustomize.py``.
"""

import _signal  # type: ignore[import-not-found]  # built in; `signal` would load `enum`
import _thread
import faulthandler
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_USUAL_FDS = 1024
"""Our descriptors are the last below this number, out of the way of the script's own."""

_STACK_SIGNAL = 62
"""A real-time signal that nobody else uses; at it ``faulthandler`` writes stacks."""

_PLACED_SIGNALS = (14, 24)
"""SIGALRM and SIGXCPU: they tell that time is up, and not where the worker was."""


class Stacks:
    """The stacks of this process.

    Args:
        path: The file for those at a fatal signal.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._offer_fd = -1

    def begin(self) -> None:
        """Let signals write them from now on."""
        self._write_at_crashes()
        self._offer()

    def end(self) -> None:
        """Remove the file if there is nothing in it."""
        try:
            if self._fd >= 0 and os.fstat(self._fd).st_size == 0:
                os.unlink(self._path)
        except OSError:
            return

    def free_descriptor(self) -> None:
        """Give the pipe back: a program that has used up its descriptors needs one."""
        if self._offer_fd >= 0:
            faulthandler.unregister(_STACK_SIGNAL)
            os.close(self._offer_fd)
            self._offer_fd = -1

    def _write_at_crashes(self) -> None:
        """Let a fatal signal write stacks, unless the user has seen to that."""
        if faulthandler.is_enabled():
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
            number = min(os.sysconf("SC_OPEN_MAX"), _MOST_USUAL_FDS) - 1
            self._fd = os.dup2(fd, number, inheritable=False)
            os.close(fd)
            faulthandler.enable(self._fd)
            # What is ignored stays ignored.
            placed = [n for n in _PLACED_SIGNALS if _signal.getsignal(n) == _signal.SIG_DFL]
            for number in placed:
                faulthandler.register(number, self._fd, chain=True)
        except (OSError, RuntimeError):
            return
        _give_way(placed)

    def _offer(self) -> None:
        """Let a signal write all threads' stacks to a pipe, from which the agent may read them.

        Without a reader nothing is kept, and no write can block. See the agent's
        ``system/stacks.py``.
        """
        try:
            read_fd, write_fd = os.pipe()
            os.close(read_fd)
            number = min(os.sysconf("SC_OPEN_MAX"), _MOST_USUAL_FDS) - 2
            fd = os.dup2(write_fd, number, inheritable=False)
            os.close(write_fd)
            faulthandler.register(_STACK_SIGNAL, fd)
        except (OSError, RuntimeError, ValueError):
            return
        self._offer_fd = fd


def _give_way(numbers: list[int]) -> None:
    """Let a script's own ``faulthandler.register`` and ``unregister`` find nothing of ours.

    ``faulthandler`` has one place for each signal. A script that registers there would not get its
    handler, but only change what ours writes; and one that has set a handler of its own meanwhile
    would lose that with ours.

    Args:
        numbers: The signals that are registered now.
    """
    register, unregister = faulthandler.register, faulthandler.unregister
    main_thread = _thread.get_ident()

    def take_back(number: "Any") -> None:
        handler = _signal.getsignal(number)
        if handler == _signal.SIG_DFL:
            unregister(number)
        elif _thread.get_ident() == main_thread:  # others can set no handler
            blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, (number,))
            unregister(number)  # which brings the default back
            _signal.signal(number, handler)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
        numbers.remove(number)

    def register_own(signum: "Any", *given: "Any", **named: "Any") -> None:
        if signum in numbers:
            take_back(signum)
        register(signum, *given, **named)

    def unregister_own(signum: "Any") -> "Any":
        return signum not in numbers and unregister(signum)

    for function, own in ((register, register_own), (unregister, unregister_own)):
        own.__name__ = own.__qualname__ = function.__name__
        own.__doc__, own.__module__ = function.__doc__, function.__module__
        setattr(faulthandler, function.__name__, own)
