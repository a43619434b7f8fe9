"""Says what a signal has begun while workers end: a person may wait for half a minute."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator

from ...rendezvous.logs import Log
from ...rendezvous.threads import NoThreadError, start_thread

log = Log(__name__)

PATIENCE_S = 1.0
"""How long workers may take to end before elrun says a word, where no terminal shows it."""

_STANDARD_INPUT, _STANDARD_ERROR = 0, 2


@contextlib.contextmanager
def stop_notice(
    number: int,
    grace_s: float,
    *,
    heeds_ctrl_c: bool,
    patience_s: float | None = None,
    why: str = "",
) -> Iterator[None]:
    """Say in a thread that workers are asked to end: at once on a terminal, else if it takes long.

    Args:
        number: The signal that elrun got.
        grace_s: How long the workers have.
        heeds_ctrl_c: Whether SIGINT would end their time.
        patience_s: When it is said; by default at once on a terminal, else after 1 s.
        why: What has begun the stop; by default the signal.
    """
    if patience_s is None:
        patience_s = 0.0 if os.isatty(_STANDARD_ERROR) else PATIENCE_S
    # Under a scheduler nobody can press Ctrl-C.
    may_come = number == signal.SIGINT or os.isatty(_STANDARD_ERROR) or os.isatty(_STANDARD_INPUT)
    heeds_ctrl_c = heeds_ctrl_c and may_come
    sentence = sentence_of_stop(
        number, grace_s, clock_in(grace_s), heeds_ctrl_c=heeds_ctrl_c, why=why
    )
    timer = threading.Timer(patience_s, log.warning, [sentence])
    timer.name, timer.daemon = "elrun-notice", True
    with contextlib.suppress(NoThreadError):  # the workers end without a word, too
        start_thread(timer)
    try:
        yield
    finally:
        timer.cancel()


def clock_in(seconds: float) -> str:
    """Return what this node's clock says then; empty where no clock goes so far."""
    with contextlib.suppress(OverflowError, ValueError, OSError):
        return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
    return ""


def sentence_of_stop(
    number: int, grace_s: float, ends_at: str = "", *, heeds_ctrl_c: bool, why: str = ""
) -> str:
    """Return what a person wants to know: what goes on, how long it may take, how to end it."""
    patience = "all the time they need" if grace_s == math.inf else f"{grace_s:g} s"
    until = f", until {ends_at}" if ends_at else ""
    name = why or signal.Signals(number).name
    sentence = f"{name}: the workers have {patience} to end{until}"
    if not heeds_ctrl_c:
        return sentence
    return f"{sentence}; {'another' if number == signal.SIGINT else 'a'} Ctrl-C kills them at once"
