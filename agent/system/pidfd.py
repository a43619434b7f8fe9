"""Processes held by a file descriptor: signalled and awaited with no fear of a recycled pid."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from .process_tree import NO_DESCRIPTORS, Process, read_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

NEVER = float("inf")
"""A deadline that does not come; to load ``math`` for it takes half a million instructions."""

_LONGEST_POLL_MS = 1 << 30  # poll() takes a C int
_FDS_TO_LOOK = 2  # for the listing of /proc, and a file in it


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process, if it is still there and may be signalled."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


def wait_readable(
    fds: Collection[int], deadline: float, urgent_fd: int | None = None
) -> tuple[set[int], bool]:
    """Block until every descriptor has been readable, the deadline passes, or it becomes urgent.

    A pidfd is readable from the end of its process on, reaped or not.

    Args:
        deadline: When to give up, by ``time.monotonic()``; ``NEVER`` if it must not.
        urgent_fd: A descriptor that ends the wait as soon as it is readable; it isn't read from.

    Returns:
        The descriptors that were never readable, and whether it became urgent.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    if urgent_fd is not None:
        poll.register(urgent_fd, select.POLLIN)
    pending = set(fds)
    while pending:
        ready = {fd for fd, _ in poll.poll(milliseconds_until(deadline))}
        for fd in ready & pending:
            poll.unregister(fd)
        pending -= ready
        if urgent_fd in ready:
            return pending, True
        if not ready and time.monotonic() >= deadline:
            break
    return pending, False


def wait_any(fds: Collection[int], deadline: float) -> set[int]:
    """Block until one descriptor is readable or the deadline passes; return those that are.

    Args:
        deadline: When to give up, by ``time.monotonic()``; ``NEVER`` if it must not.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(milliseconds_until(deadline))}
        if ready or time.monotonic() >= deadline:
            return ready


def milliseconds_until(deadline: float) -> int | None:
    """Return the time left until the deadline as ``poll`` takes it: None for no deadline."""
    return milliseconds(None if deadline == NEVER else deadline - time.monotonic())


def milliseconds(timeout_s: float | None) -> int | None:
    """Return a time as ``poll`` takes it, which knows no more than 24 days: wait again then.

    Args:
        timeout_s: Any number of seconds, ``inf`` too; one below 0 counts as 0. None is for ever.
    """
    if timeout_s is None:
        return None
    # Rounded up, so that nothing is waited for a moment too short.
    return -int(-min(max(0.0, timeout_s) * 1000, _LONGEST_POLL_MS) // 1)


def wait_briefly(fds: Iterable[int], timeout_s: float | None) -> bool:
    """Block until a descriptor is readable or has ended; return whether one is.

    It may return early where the time is longer than ``poll`` knows.

    Args:
        timeout_s: How long at most; None for ever.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds(timeout_s)))


def close_all(fds: Iterable[int]) -> None:
    """Close the descriptors."""
    for fd in fds:
        os.close(fd)


def hold_processes(processes: Iterable[Process]) -> dict[int, Process]:
    """Return those of the processes that are alive, by pidfds that the caller closes.

    Where there are not as many descriptors, some are missing: a later look finds them again.

    Raises:
        OSError: There is not even one descriptor.
    """
    held: dict[int, Process] = {}
    try:
        for process in processes:
            pidfd = _pidfd_of(process)
            if pidfd is not None:
                held[pidfd] = process
    except OSError:
        for pidfd in list(held)[:_FDS_TO_LOOK]:
            del held[pidfd]
            os.close(pidfd)
        if not held:
            raise
    return held


def _pidfd_of(process: Process) -> int | None:
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise
        return None  # it has ended
    is_alive = False
    try:
        now = read_process(process.pid)  # it may have ended, and another may have its pid by now
        is_alive = now is not None and now.start == process.start and not now.ended
    finally:
        if not is_alive:
            os.close(pidfd)
    return pidfd if is_alive else None
