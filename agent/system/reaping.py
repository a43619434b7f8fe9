"""Reaps children that outlive the agent, where the program that it is in goes on."""

from __future__ import annotations

import contextlib
import math
import os

from ...rendezvous.threads import NoThreadError, start_daemon
from .pidfd import close_all, wait_any
from .prctl import OrphanAdoption


def reap_later(pidfds: set[int]) -> None:
    """Reap children when they end; elrun's command, which ends first, leaves that to init.

    Args:
        pidfds: What they are held by; they are closed.
    """
    if pidfds and not OrphanAdoption.of_this_process().is_of_agent_alone:
        with contextlib.suppress(NoThreadError):
            start_daemon(_reap_all, "elrun-reaping", pidfds)
            return
    close_all(pidfds)


def _reap_all(pidfds: set[int]) -> None:
    while pidfds:
        for fd in wait_any(pidfds, math.inf):
            with contextlib.suppress(ChildProcessError):  # another's child
                os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
            os.close(fd)
            pidfds.discard(fd)
