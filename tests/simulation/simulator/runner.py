"""Many histories on all cores, and one of them in words."""

import gc
import logging
import multiprocessing
import os
from dataclasses import dataclass

from .history import History
from .words import Narrator

_CHUNK = 25
_CHUNKS_A_PROCESS = 20
"""A history leaves its garbage in circles: a process ends before it would have to collect them."""


@dataclass(frozen=True)
class Tally:
    """What many histories come to.

    Args:
        histories: How many there were.
        steps: How many things happened in them.
        virtual_s: How long they were for those in them.
        rounds: How many rounds were sealed with members.
        failed: The seeds whose histories broke a promise, and how.
    """

    histories: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    rounds: int = 0
    failed: tuple[tuple[int, str], ...] = ()

    def __add__(self, other):
        return Tally(
            self.histories + other.histories,
            self.steps + other.steps,
            self.virtual_s + other.virtual_s,
            self.rounds + other.rounds,
            tuple(sorted(self.failed + other.failed)),
        )


def simulate(seeds, jobs=None):
    """Make the histories of these seeds, several at a time.

    Args:
        seeds: A range of them.
        jobs: How many processes do it; by default one for each core.

    Returns:
        What they come to.
    """
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    jobs = jobs or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([History.__module__])
    with context.Pool(jobs, _begin, maxtasksperchild=_CHUNKS_A_PROCESS) as pool:
        return sum(pool.imap_unordered(_simulate_some, chunks), Tally())


def replay(seed, write, **parts):
    """Make one history, and tell it.

    Args:
        seed: Its seed.
        write: Takes each line.
        **parts: What ``History`` is to be made of, if not of the usual.

    Returns:
        How it went.
    """
    narrator = Narrator(write)
    protocol = logging.getLogger("elrun")
    level = protocol.level
    protocol.setLevel(logging.INFO)
    protocol.addHandler(narrator)
    try:
        outcome = History(seed, narrator, **parts).run()
    finally:
        protocol.removeHandler(narrator)
        protocol.setLevel(level)
    write(f"At the end: {outcome.violation or 'all is well'}.")
    return outcome


def report(tally, wall_s):
    """Return one line on many histories."""
    failed = len(tally.failed)
    return (
        f"{tally.histories:,} histories in {wall_s:.1f} s, {tally.histories / wall_s * 60:,.0f} a "
        f"minute: {f'{failed:,} broke a promise' if failed else 'all is well'} "
        f"({tally.rounds:,} rounds, {tally.steps:,} steps, {tally.virtual_s / 3600:,.0f} virtual "
        "hours)"
    )


def _begin():
    logging.disable()
    gc.disable()


def _simulate_some(seeds):
    tally = Tally()
    for seed in seeds:
        outcome = History(seed).run()
        failed = ((seed, outcome.violation),) if outcome.violation else ()
        tally += Tally(1, outcome.steps, outcome.virtual_s, outcome.rounds, failed)
    return tally
