"""A fork that its parent's signal handlers don't follow into the child.

A forked child keeps its parent's handlers and, worse, the descriptor that ``signal.set_wakeup_fd``
named: until it has let go of both, a signal to the child alone wakes and may stop the parent. So
the signals that are handled are blocked around the fork, and the child lets go before it unblocks
them. All this is done by the functions of ``_signal``: those of ``signal`` make enums of what they
return, and so write to pages that the kernel has to copy for each child, and again for the parent.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none of C's own modules
import contextlib
import os
import sys
import warnings

_CLOSE_RANGE, _LAST_FD = 436, 0xFFFFFFFF  # the same on each architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


def handled_signals() -> frozenset[int]:
    """Return the signals for which this process has a handler in Python."""
    return frozenset(
        number for number in _signal.valid_signals() if callable(_signal.getsignal(number))
    )


@contextlib.contextmanager
def shielded_fork(
    handled: Collection[int], ignored: Collection[int] = ()
) -> Iterator[Callable[[], None]]:
    """Fork within this context; the child calls what it gives, which is safe after any fork.

    The child then has default handlers and no wakeup descriptor. Signals that this process ignores
    are ignored by the child, too: ``nohup`` means the workers as well.

    Args:
        handled: The signals that ``handled_signals`` returned.
        ignored: Signals that the child is to ignore.
    """
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, handled)

    def reset() -> None:
        _signal.set_wakeup_fd(-1)
        for number in handled:
            _signal.signal(number, _signal.SIG_DFL)
        for number in ignored:
            _signal.signal(number, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    try:
        with _thread_warning_off():
            yield reset
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _thread_warning_off() -> Iterator[None]:
    # Python 3.12 warns of any fork beside threads. Ours either make system calls only, or are what
    # the user asked for with start_method="fork".
    if sys.version_info < (3, 12):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        yield


def fd_closer() -> Callable[[Collection[int]], None]:
    """Return what a forked child calls to close all its descriptors but some.

    To list them would cost a child as much as its parent has children: the kernel makes a file in
    /proc for each that is listed, and takes it away when the child is reaped.
    """
    from .libc import libc_function  # `--help` needs none

    syscall = libc_function("syscall")

    def close_others(kept: Collection[int]) -> None:
        first = 0
        for fd in sorted(kept):
            if first < fd and syscall(_CLOSE_RANGE, first, fd - 1, 0):
                return _close_listed(kept)
            first = fd + 1
        if syscall(_CLOSE_RANGE, first, _LAST_FD, 0):
            _close_listed(kept)
        return None

    return close_others


def _close_listed(kept: Collection[int]) -> None:
    """Close descriptors one by one, where the kernel is older than 5.9 or a sandbox forbids."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(fd)
