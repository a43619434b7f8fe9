"""Sees to it that a host of many connections may have as many open files."""

from __future__ import annotations

import os

from ..logs import Log

log = Log(__name__)

_FOR_THE_AGENT = 256
"""What an agent may have open beside its connections."""


def make_room_for(connections: int) -> None:
    """Raise this process's limit of open files as far as that takes, and may be done.

    Say so where it can't be done. Systems set the limit to 1,024, and allow more to those that ask.
    """
    wanted = len(os.listdir("/proc/self/fd")) + _FOR_THE_AGENT + connections
    if os.sysconf("SC_OPEN_MAX") >= wanted:
        return
    import resource  # few jobs have so many nodes

    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    except (OSError, ValueError):  # another limit of the system's
        limit = soft
    if limit < wanted:
        log.warning(
            "this node hosts the rendezvous of up to %d nodes, and may have only %d open files: "
            "raise the hard limit of open files (ulimit -Hn) on this host to %d",
            connections,
            limit,
            wanted,
        )
