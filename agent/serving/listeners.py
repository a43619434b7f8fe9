"""Sockets that the small server listens at: a TCP port, or a path that only one user may use."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 128

_PEER = struct.Struct("iII")  # process id, user, group: see unix(7)


def listen_at_port(host: str, port: int) -> socket.socket:
    """Listen at a TCP port; 0 takes any that is free.

    Raises:
        OSError: The address is not free, or not this host's.
    """
    is_v6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_v6 else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
    )


def listen_at_path(folder: str, name: str) -> socket.socket:
    """Listen at a socket in a folder, whose path may be longer than the kernel's 107 bytes.

    Args:
        folder: The folder; nobody but this user may enter it.
        name: The socket's name there; nothing has that name.

    Raises:
        OSError: There can be no socket: no room, no right, or a file system without sockets.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(folder) as path:
            listener.bind(os.path.join(path, name))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def short_path(folder: str) -> Iterator[str]:
    """Let the body name a folder by a path of a few bytes, through a descriptor of this process."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def connect_to_path(folder: str, name: str, timeout_s: float) -> socket.socket:
    """Connect to a socket that ``listen_at_path`` has made.

    Raises:
        OSError: Nobody listens there, or the time is over.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout_s)
        with short_path(folder) as path:
            client.connect(os.path.join(path, name))
    except OSError:
        client.close()
        raise
    return client


def peer_of(client: socket.socket) -> tuple[int, int]:
    """Return the process id and the user of the other end of a connection at a path."""
    found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, user, _ = _PEER.unpack(found)
    return pid, user


def is_own_or_root(client: socket.socket) -> bool:
    """Return whether a connection at a path comes from this process's user, or from root."""
    _, user = peer_of(client)
    return user in (0, os.geteuid())
