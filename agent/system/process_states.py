"""Says what the kernel knows of a process that does not answer."""

from __future__ import annotations

import contextlib
import os
import signal

_MOST_BYTES = 8192

_STATES = {
    "R": "running",
    "S": "waiting",
    "D": "in an uninterruptible wait for a device or a file system",
    "T": "stopped (SIGSTOP)",
    "t": "stopped by a debugger",
}
HELD_STATES = ("D", "T", "t")
"""States in which a process goes on only if the kernel or somebody else lets it."""

_PYTHON = "python"
"""How the name of an interpreter begins: one that ends takes its hook away."""

HOOK_SIGNAL = 62
"""The real-time signal at which the hook in a Python worker writes stacks."""

END_SIGNAL, GROUP_SIGNAL = 61, 60
"""The signals that a Python worker ignores whose script has ended; the second, if that has left its
process group open. A process that has died keeps its mask until it is reaped."""


def state_of(pid: int) -> str:
    """Return the letter that the kernel has for a process's state; "" if there is no process."""
    return status_field(pid, b"State:").strip()[:1].decode(errors="replace")


def signals_in(pid: int, field: bytes) -> set[int]:
    """Return the signals in a mask of ``/proc/PID/status``, such as ``SigCgt:``."""
    mask = int(status_field(pid, field) or b"0", 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}


def status_field(pid: int, field: bytes) -> bytes:
    """Return what follows a field's name in ``/proc/PID/status``; empty if there is no process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(field):
                return line[len(field) :]
    return b""


def describe_state(pid: int) -> str:
    """Return what the kernel says that a process's main thread is doing, or nothing."""
    state = state_of(pid)
    found = _STATES.get(state, "")
    place = "" if state in "Tt" else _text_in(pid, "wchan")
    return f"{found} in the kernel's {place}" if found and place not in ("", "0") else found


def describe_silence(pid: int) -> str:
    """Return why a process has not said where it is, and what the kernel says of it.

    Returns:
        The rest of a sentence about the process: ``is stopped (SIGSTOP)``.
    """
    state = state_of(pid)
    if state in "ZX":  # also of no process at all
        return "has ended"
    said = describe_state(pid)
    if state in HELD_STATES:
        return f"is {said}"
    if HOOK_SIGNAL not in signals_in(pid, b"SigCgt:"):
        name = _text_in(pid, "comm") or "a program"
        if name.startswith(_PYTHON):
            return f"runs {name}, which is ending or without elrun's hook, {said}"
        return f"runs {name} without elrun's hook, {said}"
    if HOOK_SIGNAL in signals_in(pid, b"SigBlk:"):
        return f"blocks signals, {said}"
    return f"gives no stack, {said}"


def descendants(pid: int, limit: int) -> list[int]:
    """Return the children of a process, their children and so on; none where the kernel lists none.

    Args:
        limit: How many at most.
    """
    found: list[int] = []
    parents = [pid]
    while parents and len(found) < limit:
        parent = parents.pop(0)
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = _text_in(parent, f"task/{thread}/children").split()
                found += map(int, children)
                parents += map(int, children)
    return found[:limit]


def kernel_stack(pid: int) -> str:
    """Return where a process is in the kernel, a line for each function; "" if we may not know."""
    return _text_in(pid, "stack")


def _text_in(pid: int, name: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(_MOST_BYTES).decode(errors="replace").strip()
    return ""
