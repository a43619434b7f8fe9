"""What goes wrong in one history, and when: settled by a seed."""

import random
from dataclasses import dataclass

NODES = 4
"""The nodes that may run an agent; the run needs all but one of them."""
MEMBERS = 3
"""The members of the etcd."""

SHORT_S = (0.5, 1.5)
"""Shorter than a node may be silent."""
LONG_S = (4.0, 10.0)
"""Longer than that; with several endpoints, the store is waited for 7 s."""
AT_ONCE = (0.0, 0.0)
SOON_S = (0.0, 1.5)
OVERLAPPING_PART = 0.2

NODE_FAULTS = {
    "a worker is killed": AT_ONCE,
    "an agent is killed; later a new one comes": SOON_S,
    "an agent is stopped by SIGTERM; later a new one comes": SOON_S,
    "a node stands still for a moment": SHORT_S,
    "a node stands still for long": LONG_S,
    "an agent stands still for long, and its workers don't": LONG_S,
    "a cable is cut for a moment": SHORT_S,
    "a cable is cut for long": LONG_S,
    "nothing that a node sends arrives": LONG_S,
    "nothing that is sent to a node arrives": LONG_S,
    "an interface is down": LONG_S,
    "a cable is slow and loses much": LONG_S,
    "all cables are cut": LONG_S,
    "the disk for the log files is full, and a worker is killed": LONG_S,
}
HOST_FAULTS = {
    "the agent with the store is killed; later a new one comes": SOON_S,
    "the node with the store stands still for long": LONG_S,
    "the node with the store is cut off for long": LONG_S,
    "nothing that the node with the store sends arrives": LONG_S,
}
MEMBER_FAULTS = {
    "the etcd member that leads is killed; it starts again": SOON_S,
    "an etcd member is killed; it starts again": LONG_S,
    "an etcd member stands still": LONG_S,
    "an etcd member is cut off": LONG_S,
    "two etcd members are killed; they start again": LONG_S,
}
FAULTS = {"c10d": NODE_FAULTS | HOST_FAULTS, "etcd-v3": NODE_FAULTS | MEMBER_FAULTS}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Args:
        kind: A key of ``FAULTS``.
        target: Index of a node or of a member, if the kind leaves that open.
        lasts_s: Seconds until what was broken is mended.
        peace_s: Seconds of peace before it.
        overlaps: Whether it is mended only when the next one is.
    """

    kind: str
    target: int
    lasts_s: float
    peace_s: float
    overlaps: bool


def schedule(seed, backend):
    """Yield the faults of a history, without end: every kind once, then all in another order."""
    chance = random.Random(f"{seed} {backend}")
    while True:
        kinds = list(FAULTS[backend])
        chance.shuffle(kinds)
        for kind in kinds:
            targets = MEMBERS if kind in MEMBER_FAULTS else NODES
            yield Fault(
                kind,
                chance.randrange(targets),
                round(chance.uniform(*FAULTS[backend][kind]), 2),
                round(chance.uniform(0.2, 1.5), 2),
                overlaps=chance.random() < OVERLAPPING_PART,
            )
