"""Says where this node's workers are: when a signal stops the job, and when SIGUSR2 asks.

A scheduler often ends a job that hangs, and a person wants to know where it hangs. One line on the
console names the place of each rank. The whole stacks stand in the report, or else in a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ...rendezvous.logs import Log
from ...rendezvous.threads import Call
from ..failures.stack_places import Whereabouts, folded, sentence_of, whole_text
from ..monitoring.whereabouts import whereabouts, whereabouts_of_attempt
from ..system.stacks import STOP_DUMP_S
from ..system.whole_writes import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..processes.process import WorkerProcess
    from ..processes.results import WorkerExit
    from ..processes.start import PContext
    from ..workers.worker import WorkerGroup

log = Log(__name__)

LOST_PEER_DUMP_S = 1.0
"""How long they have where a failure only tells of a lost peer: only they know more."""

_WRITE_S = 2.0
_NO_WORKER = "no worker of this node runs now"

Record = Callable[[str, Mapping[int, Whereabouts]], bool]
"""Takes down where ranks were, and why that was asked; returns whether it keeps whole stacks."""


@contextmanager
def places_told(pids: Mapping[int, int], record: Record) -> Iterator[None]:
    """Ask Python workers where they are, then let the body stop them, then say it.

    Args:
        pids: Process ids of the running workers by global rank.
        record: Takes the answers down.
    """
    found = whereabouts(pids, STOP_DUMP_S)
    record("a signal stopped elrun", found)
    yield
    if known := {rank: each.place for rank, each in found.items() if each.place}:
        log.warning("when the signal came: %s", folded(known))


def places_of(group: WorkerGroup, workers: PContext) -> dict[int, str]:
    """Return where this node's running Python workers are, by global rank."""
    rank_of = {each.local_rank: each.global_rank for each in group.workers}
    pids = {rank_of[at]: pid for at, pid in workers.running_pids().items()}
    found = whereabouts(pids, LOST_PEER_DUMP_S)
    return {rank: each.place for rank, each in found.items() if each.place}


def tell_places(
    group: WorkerGroup,
    workers: PContext | None,
    running: Mapping[int, WorkerProcess],
    ends: Mapping[int, WorkerExit],
    record: Record,
) -> None:
    """Say where the workers of this node are, since a signal has asked for that.

    The main thread may stop them meanwhile, and let go of them.

    Args:
        workers: Their processes; None: there are none yet.
        running: Those that run, by local rank.
        ends: How the others have ended, by local rank.
        record: Takes the answers down.
    """
    rank_of = {each.local_rank: each.global_rank for each in group.workers}
    found = whereabouts_of_attempt(rank_of, running, ends if running else {})
    text = sentence_of(found) if found else _NO_WORKER
    if (group.group_world_size or 1) > 1:
        text += "; each other node's elrun answers for its own ranks"
    where = "" if workers is None else kept("SIGUSR2 asked", found, workers, record)
    log.warning("places on %s: %s%s", os.uname().nodename, text, where)


def kept(why: str, found: Mapping[int, Whereabouts], workers: PContext, record: Record) -> str:
    """Keep whole stacks in the report, else in a file of the log folder.

    Args:
        record: Takes the answers down.

    Returns:
        What to say of it, at the end of a sentence.
    """
    is_recorded = record(why, found)
    if not found:
        return ""
    if is_recorded:
        return "; whole stacks are in the report"
    path = _path_for(workers)
    if not path:
        return "; whole stacks are kept with --report FILE"
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n\n{whole_text(found)}"
    call = Call(lambda: _replace(path, text), "elrun-places", or_here=True)
    if not call.wait(_WRITE_S):
        return f"; whole stacks: the file system of {path} does not answer"
    problem = call.result()
    return f"; whole stacks: {problem or path}"


def _path_for(workers: PContext) -> str:
    folders = [
        os.path.split(os.path.dirname(path)) for path in workers.error_files.values() if path
    ]
    folders = [each for each in folders if os.path.isdir(os.path.join(*each))]
    if not folders:
        return ""
    parent, own = folders[0]  # the layout of most has a folder for each worker
    return os.path.join(parent if own.isdecimal() else os.path.join(parent, own), "stacks.txt")


def _replace(path: str, text: str) -> str:
    """Write a file anew; return what is wrong, if it can't be written."""
    try:
        replace_file(path, text.encode(errors="replace"), 0o600)
    except OSError as error:
        return f"{path} can't be written ({error.strerror})"
    return ""
