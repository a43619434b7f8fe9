"""Says where this node's workers are: when a signal stops the job, and when SIGUSR2 asks.

A scheduler often ends a job that hangs, and a person wants to know where it hangs. One line on the
console names the place of each rank. The whole stacks stand in the report, or else in a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...rendezvous.logs import Log
from ...rendezvous.threads import Call
from ..failures.stack_places import Whereabouts, folded, place_in, sentence_of, whole_text
from ..system.process_states import descendants, describe_silence, kernel_stack
from ..system.stacks import STOP_DUMP_S, take_stacks

if TYPE_CHECKING:
    from ..processes.start import PContext
    from ..workers.worker import WorkerGroup

log = Log(__name__)

REQUEST_DUMP_S = 2.0
"""How long workers have to answer a request, all together."""

_WRITE_S = 2.0
_MOST_CHILDREN = 64
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


def whereabouts(pids: Mapping[int, int], within_s: float) -> dict[int, Whereabouts]:
    """Return where workers are, by global rank.

    Args:
        pids: Their process ids by global rank.
        within_s: How long they have to answer, all together.
    """
    stacks = take_stacks(pids.values(), within_s)
    found = {}
    for rank, pid in pids.items():
        stack = stacks.get(pid, "")
        if place := place_in(stack):
            found[rank] = Whereabouts(pid, place, "", stack)
        else:
            found[rank] = Whereabouts(pid, "", describe_silence(pid), stack or kernel_stack(pid))
    return found


def places_of(group: WorkerGroup, workers: PContext) -> dict[int, str]:
    """Return where this node's running Python workers are, by global rank."""
    rank_of = {each.local_rank: each.global_rank for each in group.workers}
    pids = {rank_of[at]: pid for at, pid in workers.running_pids().items()}
    found = whereabouts(pids, STOP_DUMP_S)
    return {rank: each.place for rank, each in found.items() if each.place}


def _with_children(found: Mapping[int, Whereabouts], within_s: float) -> dict[int, Whereabouts]:
    """Return where workers are, with the stacks of their child processes, such as a DataLoader's.

    A child that was forked has its parent's pipe, so that one is asked after the other.

    Args:
        found: Where the workers are.
        within_s: How long the children have, all together.
    """
    deadline = time.monotonic() + within_s
    whole = {}
    for rank, each in found.items():
        pieces = [each.stack]
        for child in descendants(each.pid, _MOST_CHILDREN):
            if (left_s := deadline - time.monotonic()) > 0:
                stack = take_stacks([child], left_s).get(child)
                pieces.append(f"\nchild process {child}:\n{stack or describe_silence(child)}")
        whole[rank] = each._replace(stack="\n".join(pieces))
    return whole


def tell_places(group: WorkerGroup, workers: PContext | None, record: Record) -> None:
    """Say where the workers of this node are, since a signal has asked for that.

    Args:
        group: The workers.
        workers: Their processes; None: there are none yet.
        record: Takes the answers down.
    """
    rank_of = {each.local_rank: each.global_rank for each in group.workers}
    running = {} if workers is None else workers.running_pids()
    found = whereabouts({rank_of[at]: pid for at, pid in running.items()}, REQUEST_DUMP_S)
    found = _with_children(found, REQUEST_DUMP_S)
    if workers is not None and running:
        found |= {
            rank_of[at]: Whereabouts(end.pid, "", f"it has ended with exit code {end.exitcode}", "")
            for at, end in workers.exits.items()
        }
    text = sentence_of(found) if found else _NO_WORKER
    if (group.group_world_size or 1) > 1:
        text += "; each other node's elrun answers for its own ranks"
    if record("SIGUSR2 asked", found) and found:
        text += "; whole stacks are in the report"
    elif found and workers is not None:
        text += _kept(found, workers)
    log.warning("places on %s: %s", os.uname().nodename, text)


def _kept(found: Mapping[int, Whereabouts], workers: PContext) -> str:
    """Write whole stacks to a file in the log folder; return what to say of it."""
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
    scratch = f"{path}.{os.getpid()}"
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.rename(scratch, path)
    except OSError as error:
        return f"{path} can't be written ({error.strerror})"
    return ""
