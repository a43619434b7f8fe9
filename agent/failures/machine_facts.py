"""Asks the machine what it knows about the topic of an exception, while the worker isn't reaped.

Each topic costs only its own question. Libraries are imported late: most failures need none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from .advice import MachineFacts, Topic, advise, gpu_holder_in, port_in, topic_of
from .limits import limits_of
from .signal_cause import SHARED_MEMORY, room_in

_MOUNTS = "/proc/self/mounts"
_MOST_BYTES = 1 << 20
_REAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "overlay", "vfat", "ntfs")
"""File systems of this machine: one of a network could make the agent wait."""

_FULL_BELOW_BYTES = 1 << 20
_FULL_SHARE = 100
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def explain_exception(
    words: str, pid: int, look_for_gpus: Callable[[], tuple[int | None, str]]
) -> str:
    """Return what the machine says about an exception, in one sentence; empty: nothing certain.

    Args:
        words: Type and text of the exception, and of its causes.
        pid: The process that it ended; its limits are known until it is reaped.
        look_for_gpus: Returns how many GPUs workers see, and the variable that hides some.
    """
    topic = topic_of(words)
    if topic is None:
        return ""
    if topic is Topic.GPU_NUMBER:
        gpus, choice = look_for_gpus()
        return advise(topic, MachineFacts(gpus=gpus, gpu_choice=choice))
    return advise(topic, _facts_about(topic, words, pid))


def _facts_about(topic: Topic, words: str, pid: int) -> MachineFacts:
    match topic:
        case Topic.PORT:
            port = port_in(words)
            return MachineFacts(port=port, port_holder=_holder_of(port))
        case Topic.DISK:
            return MachineFacts(full_disks=_nearest(tuple(full_disks()), words, pid))
        case Topic.SHARED_MEMORY:
            return MachineFacts(shared_memory=room_in(SHARED_MEMORY))
        case Topic.GPU_MEMORY:
            return MachineFacts(gpu_holder=_command_of(*gpu_holder_in(words, pid)))
        case Topic.CLOCK:
            from datetime import datetime, timezone  # failures only

            now = datetime.now(tz=timezone.utc).astimezone()
            return MachineFacts(now=f"{now:%Y-%m-%d %H:%M %Z}")
        case _:
            return MachineFacts(limits=limits_of(pid))


def _holder_of(port: int) -> str:
    if not port:
        return ""
    from ...rendezvous.network.port_holder import holder_of, pid_of_holder

    return holder_of(port) if pid_of_holder(port) else ""


def _command_of(pid: int, held: str) -> str:
    if not pid:
        return ""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
        if command:
            return f"{held} by {command!r} (pid {pid})"
    return f"{held} by process {pid}"


def full_disks(mounts: str = _MOUNTS) -> Iterator[tuple[str, int]]:
    """Return the file systems of this machine that have no room: path, and size (0: no inodes)."""
    seen = set()
    for path, kind, options in _mounted(mounts):
        if kind not in _REAL or "ro" in options.split(","):
            continue
        try:
            room, device = os.statvfs(path), os.stat(path).st_dev
        except OSError:
            continue
        if device in seen or not room.f_blocks:
            continue
        seen.add(device)
        free = room.f_bavail * room.f_frsize
        if free < _FULL_BELOW_BYTES and room.f_bavail <= room.f_blocks // _FULL_SHARE:
            yield path, room.f_blocks * room.f_frsize
        elif room.f_files and not room.f_favail:
            yield path, 0


def _nearest(
    disks: tuple[tuple[str, int], ...], words: str, pid: int
) -> tuple[tuple[str, int], ...]:
    """Return the full file systems around a process's folder, or named by it; else all of them.

    Those of other users are as full as they like.
    """
    try:
        folder = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return disks
    near = [
        (path, size)
        for path, size in disks
        if path == "/" or path in words or _is_beneath(folder, path) or _is_beneath(path, folder)
    ]
    return tuple(near) or disks


def _is_beneath(path: str, folder: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def _mounted(path: str) -> Iterator[tuple[str, str, str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return
    for line in text.splitlines():
        match line.split(" "):
            case [_, place, kind, options, *_]:
                for escape, letter in _ESCAPES:
                    place = place.replace(escape, letter)
                yield place, kind, options
            case _:
                continue
