"""Sockets in folders, which only their owner and root may use; see unix(7).

A path is bound and reached through ``/proc/self/fd``: the kernel takes no more than 107 bytes of a
socket's path, and folders of runs are often longer. Nothing but ``_socket`` is loaded: an agent
that nobody asks pays for no more.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 128

_PEER = struct.Struct("iII")  # process id, user, group


def listen_in(folder: str, name: str) -> _socket.socket:
    """Listen at a socket in a folder.

    Args:
        folder: The folder; nobody but this user may enter it.
        name: The socket's name there; nothing has that name.

    Raises:
        OSError: There can be no socket: no room, no right, or a file system without sockets.
    """
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        with _short_path(folder) as path:
            listener.bind(f"{path}/{name}")
            os.chmod(f"{path}/{name}", 0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def connect_in(folder: str, name: str, timeout_s: float) -> _socket.socket:
    """Connect to a socket in a folder; each step may take so long.

    Raises:
        OSError: Nobody listens there, or the time is over.
    """
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # A socket that does not block would not wait for a place among those that are accepted.
        time_out = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
        client.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, time_out)
        with _short_path(folder) as path:
            client.connect(f"{path}/{name}")
        client.settimeout(timeout_s)
    except OSError:
        client.close()
        raise
    return client


def peer_of(client: _socket.socket) -> tuple[int, int]:
    """Return the process id and the user of the other end of a connection."""
    found = client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER.size)
    pid, user, _ = _PEER.unpack(found)
    return pid, user


def is_of_owner(client: _socket.socket) -> bool:
    """Return whether the other end of a connection is a process of this user, or of root."""
    return peer_of(client)[1] in (0, os.geteuid())


@contextlib.contextmanager
def _short_path(folder: str) -> Iterator[str]:
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
