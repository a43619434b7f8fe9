"""Says where workers were when a signal stopped the job: a scheduler often ends one that hangs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ...rendezvous.logs import Log
from ..failures.stack_places import folded, place_in
from ..system.stacks import take_stacks

log = Log(__name__)


@contextmanager
def places_told(pids: Mapping[int, int]) -> Iterator[None]:
    """Ask Python workers where they are, then let the body stop them, then say it.

    Args:
        pids: Process ids of the running workers by global rank.
    """
    stacks = take_stacks(pids.values())
    yield
    places = {rank: place_in(stacks[pid]) for rank, pid in pids.items() if pid in stacks}
    if known := {rank: place for rank, place in places.items() if place}:
        log.warning("when the signal came: %s", folded(known))
