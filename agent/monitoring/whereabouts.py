"""Finds out where workers are: Python shows its stacks; the kernel knows something of others."""

from __future__ import annotations

import time

from ..failures.stack_places import (
    CHILD_TITLE,
    Whereabouts,
    own_place_in,
    place_in,
    waits_for_child,
)
from ..system.process_states import (
    HELD_STATES,
    descendants,
    describe_silence,
    kernel_stack,
    state_of,
)
from ..system.stacks import send_by_pid, take_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..processes.process import WorkerProcess
    from ..processes.results import WorkerExit

    Send = Callable[[int, int], bool]
    """Sends a signal to a process; see ``take_stacks``."""

REQUEST_DUMP_S = 2.0
"""How long workers of a job that goes on have to answer, all together."""

_MOST_CHILDREN = 64
_STOPPED = ("T", "t")
"""States of which the kernel's stack tells no more than the letter."""


def whereabouts(
    pids: Mapping[int, int], within_s: float, send: Send = send_by_pid
) -> dict[int, Whereabouts]:
    """Return where workers are, by global rank.

    Args:
        pids: Their process ids by global rank.
        within_s: How long they have to answer, all together.
    """
    stacks = take_stacks(pids.values(), within_s, send)
    found = {}
    for rank, pid in pids.items():
        stack = stacks.get(pid, "")
        if place := place_in(stack):
            found[rank] = Whereabouts(pid, place, "", stack)
        else:
            state = state_of(pid)
            known = stack or ("" if state in _STOPPED else kernel_stack(pid))
            is_held = state in HELD_STATES
            found[rank] = Whereabouts(pid, "", describe_silence(pid), known, is_held)
    return found


def with_children(
    found: Mapping[int, Whereabouts], within_s: float, send: Send = send_by_pid
) -> dict[int, Whereabouts]:
    """Return where workers are, with the stacks of their child processes, such as a DataLoader's.

    The place of a worker that waits for a child has the child's place as well. A child that was
    forked has its parent's pipe, so that one is asked after the other.

    Args:
        within_s: How long the children have, all together.
    """
    deadline = time.monotonic() + within_s
    whole = {}
    for rank, each in found.items():
        pieces, place, held = [each.stack], each.place, ""
        children = descendants(each.pid, _MOST_CHILDREN)
        for child in children if send(each.pid, 0) else ():  # else they may be another's
            if (left_s := deadline - time.monotonic()) > 0:
                stack = take_stacks([child], left_s).get(child, "")
                own = own_place_in(stack) if waits_for_child(each.place) else ""
                if own and place == each.place:
                    place = f"{place}, for a child process in {own}"
                silence = describe_silence(child)
                held = held or (silence if state_of(child) in HELD_STATES else "")
                pieces.append(f"\n{CHILD_TITLE}{child}:\n{stack or silence}")
        known = each._replace(place=place, stack="\n".join(pieces))
        whole[rank] = _with_held_child(known, held) if held else known
    return whole


def whereabouts_of_attempt(
    rank_of: Mapping[int, int],
    running: Mapping[int, WorkerProcess],
    ends: Mapping[int, WorkerExit],
) -> dict[int, Whereabouts]:
    """Return where an attempt's workers are, by global rank; they have four seconds to say so.

    The main thread may stop them meanwhile, and let go of them.

    Args:
        rank_of: Their global ranks, by local rank.
        running: Those that run, by local rank.
        ends: How others have ended, by local rank.
    """
    process_of = {each.pid: each for each in running.values()}

    def send(pid: int, number: int) -> bool:
        process = process_of.get(pid)
        return send_by_pid(pid, number) if process is None else process.signal_alone(number)

    pids = {rank_of[at]: each.pid for at, each in running.items()}
    found = with_children(whereabouts(pids, REQUEST_DUMP_S, send), REQUEST_DUMP_S, send)
    for at, end in ends.items():
        silence = f"has ended with exit code {end.exitcode}"
        found[rank_of[at]] = Whereabouts(end.pid, "", silence, "")
    return found


def _with_held_child(found: Whereabouts, silence: str) -> Whereabouts:
    if found.is_held:
        return found
    what = f"with a child process that {silence}"
    if found.place:
        return found._replace(place=f"{found.place}, {what}", is_held=True)
    return found._replace(silence=f"{found.silence}, {what}", is_held=True)
