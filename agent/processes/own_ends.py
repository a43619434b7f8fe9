"""Tells whether a worker that ended while its group was stopped was stopped, or failed by itself.

Another worker's failure is often shared: all of them meet the same bad record within a tenth of a
second. The death signal then reaches some that have failed already, or are about to. What the
kernel knows decides: a signal that a process neither handles nor ignores can't but kill it, and one
that it ignores can't do anything.
"""

from __future__ import annotations

import enum
import signal

from ...rendezvous.named_tuple import NamedTuple

_SHELL = 128  # what a shell adds to the number of a signal


class Disposition(enum.Enum):
    """What a process would do at the death signal, just before it was sent."""

    DIES = "dies"
    IGNORES = "ignores it"
    DECIDES = "has a handler, blocks it, or is not known"


class EndInStop(NamedTuple):
    """How a worker ended that ran when the stop of its group began.

    Args:
        exitcode: Its exit code, -n for signal n.
        disposition: What it would do at that.
        was_killed: Whether it got SIGKILL at the deadline.
        message: What it left in its error file, or "".
        first_message: What the first failure of its group left there, or "".
    """

    exitcode: int
    death_signal: int
    disposition: Disposition
    was_killed: bool = False
    message: str = ""
    first_message: str = ""


def failed_by_itself(end: EndInStop) -> bool:
    """Return whether a worker's end is no consequence of the stop."""
    if end.exitcode == 0:
        return False
    if end.exitcode == -signal.SIGKILL:  # of the kernel, where memory runs out
        return not end.was_killed
    if end.exitcode in (-end.death_signal, _SHELL + end.death_signal):
        return False
    if end.disposition is not Disposition.DECIDES:
        return True
    # It may end in any way that its handler likes; but no signal makes it fail as the first did.
    return bool(end.message) and end.message == end.first_message


def disposition_of(pid: int, number: int) -> Disposition:
    """Return what a process would do at a signal.

    Args:
        pid: Its process id.
    """
    masks = _signal_masks(pid)
    if not masks:
        return Disposition.DECIDES
    caught, ignored, blocked = (
        masks.get(name, 0) >> (number - 1) & 1 for name in (b"SigCgt", b"SigIgn", b"SigBlk")
    )
    if caught or blocked:
        return Disposition.DECIDES
    return Disposition.IGNORES if ignored else Disposition.DIES


def _signal_masks(pid: int) -> dict[bytes, int]:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = [line.partition(b":") for line in file]
    except OSError:  # it has ended
        return {}
    return {
        name: int(mask, 16)
        for name, _, mask in fields
        if name.startswith(b"Sig") and name != b"SigQ"
    }
