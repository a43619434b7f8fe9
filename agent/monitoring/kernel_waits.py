"""Finds workers that the kernel holds in one uninterruptible wait for too long.

A thread is in such a wait while a GPU or a file system does not answer; no signal can end the wait.
A program that reads a slow disk again and again is in many short waits, which are no problem. The
two are told apart by the kernel's count of context switches of a thread: during one wait that count
does not change.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping

from ...rendezvous.logs import Log
from ..failures.failure import ProcessFailure
from ..processes.companion import Companion, Trouble, Wakes
from ..processes.context import PContext
from ..workers.environment import UNINTERRUPTIBLE_STATE_TIMEOUT

log = Log(__name__)

_MOST_S_BETWEEN_LOOKS = 1.0
_KILLED_BY_NOTHING = 1

Waits = Mapping[int, int]
"""Threads in an uninterruptible wait, with their counts of context switches."""


class KernelWaits(Companion):
    """Remembers how long each thread has been seen in the same wait.

    Args:
        patience_s: How long one wait may last.
        read_waits: Returns the waits of a process.
    """

    def __init__(self, patience_s: float, read_waits: Callable[[int], Waits] | None = None) -> None:
        self._patience_s = patience_s
        self._read_waits = read_waits or read_waits_of
        self._since: dict[tuple[int, int], float] = {}
        self._workers: PContext | None = None

    def begin_attempt(self, workers: PContext) -> None:
        """Look at these workers from now on."""
        self._workers = workers

    def end_attempt(self) -> None:
        """Look at no worker until the next attempt."""
        self._workers = None

    def wakes(self) -> Wakes:
        """Return when to look next: a wait is found half a patience late at most."""
        if self._workers is None:
            return Wakes()
        return Wakes(within_s=min(_MOST_S_BETWEEN_LOOKS, self._patience_s / 2))

    def tick(self) -> Trouble | None:
        """Look at the workers; one that waits for too long holds a device that others need."""
        if self._workers is None:
            return None
        held = self.look(self._workers.running_pids(), time.monotonic())
        return Trouble("the kernel holds a worker", held, is_node_unfit=True) if held else None

    def look(self, pids: Mapping[int, int], now: float) -> dict[int, ProcessFailure]:
        """Read the waits of all workers; return a failure for each that has waited for too long.

        Args:
            pids: Process ids by local rank.
            now: The time, by ``time.monotonic()``.
        """
        waits = {rank: self._read_waits(pid).items() for rank, pid in pids.items()}
        self._since = {
            wait: self._since.get(wait, now) for of_one in waits.values() for wait in of_one
        }
        held_s = {
            rank: max((now - self._since[wait] for wait in of_one), default=-math.inf)
            for rank, of_one in waits.items()
        }
        return {
            rank: _failure(rank, pids[rank], held_s[rank])
            for rank in sorted(pids, key=lambda rank: -held_s[rank])
            if held_s[rank] >= self._patience_s
        }


def watch_kernel_waits(environ: Mapping[str, str]) -> KernelWaits | None:
    """Return the monitor that the environment asks for; None if it asks for none.

    Args:
        environ: The agent's environment. ``TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT`` is a number
            of seconds; as in torch, 0 or a value that is no number means no monitor.
    """
    value = environ.get(UNINTERRUPTIBLE_STATE_TIMEOUT, "")
    try:
        patience_s = float(value or 0)
    except ValueError:
        patience_s = math.nan
    if math.isnan(patience_s):
        log.warning(
            "%s=%r is no number of seconds: workers that the kernel holds are not noticed",
            UNINTERRUPTIBLE_STATE_TIMEOUT,
            value,
        )
    return KernelWaits(patience_s) if patience_s > 0 else None


def read_waits_of(pid: int) -> dict[int, int]:
    """Return the uninterruptible waits of a process's threads; none if the process has ended."""
    waits = {}
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return {}
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                fields = dict(line.split(b":", 1) for line in file if b":" in line)
        except OSError:  # the thread has ended
            continue
        if fields.get(b"State", b"").strip().startswith(b"D"):
            waits[int(thread)] = int(fields.get(b"voluntary_ctxt_switches", 0))
    return waits


def _failure(local_rank: int, pid: int, held_s: float) -> ProcessFailure:
    from ..system.process_states import describe_state  # failures only

    failure = ProcessFailure(local_rank, pid, _KILLED_BY_NOTHING, error_file="")
    where = describe_state(pid) or "in an uninterruptible wait"
    failure.message = (
        f"it has been {where} for {held_s:.3g} s, and no signal can end that; there is no "
        "restart, as this node may need a repair"
    )
    return failure
