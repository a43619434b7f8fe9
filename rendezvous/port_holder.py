"""Which process of this host listens on a port, as far as this user may see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"


def holder_of(port: int) -> str:
    """Return what holds a port, for a sentence: ``python (pid 1234)``.

    Args:
        port: A TCP port.

    Returns:
        The process; its user where that is another one; else ``another program``.
    """
    sockets = dict(_sockets_at(port))
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has ended, or is another user's
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in sockets for fd in _fds_of(pid)):
                return f"{_name_of(pid)} (pid {pid})"
    for uid in sockets.values():
        return f"a process of user {_user_of(uid)}"
    return "another program"


def _sockets_at(port: int) -> Iterator[tuple[str, int]]:
    """Yield the sockets that listen on a port, as links to descriptors name them, and their users.

    The tables' columns are proc(5)'s.
    """
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="utf-8") as file:
            next(file)
            for line in file:
                _, local, _, state, _, _, _, uid, _, inode, *_ = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield f"socket:[{inode}]", int(uid)


def _fds_of(pid: str) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")


def _name_of(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _user_of(uid: int) -> str:
    import pwd  # noqa: PLC0415  only where a port is taken

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
