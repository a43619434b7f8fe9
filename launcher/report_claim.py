"""Keeps two agents of one host from writing the same report, where each would replace the other's.

A claim is a socket under a name that the kernel keeps for a host's network: the name goes with the
process, and nothing is left in the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from hashlib import sha256

from ..agent.serving.local_sockets import is_of_owner, peer_of


@contextlib.contextmanager
def claimed(path: str) -> Iterator[None]:
    """Claim a report's path for the body.

    Raises:
        FileExistsError: Another process of this host has claimed it.
    """
    name = b"\0elrun-report-" + sha256(os.fsencode(os.path.abspath(path))).hexdigest().encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(name)
            claim.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and (pid := _living_owner(name)):
                what = f"another elrun (pid {pid}) keeps its report there; add ${{pid}} to the name"
                raise FileExistsError(errno.EEXIST, what) from None
        yield


def _living_owner(name: bytes) -> int:
    """Return the process of this user that has claimed a name; 0: none, or it has ended."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        probe.connect(name)
        if is_of_owner(probe):  # anybody can take the name
            pid, _ = peer_of(probe)
            os.kill(pid, 0)
            return pid
    return 0
