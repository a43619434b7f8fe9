"""One round of very many nodes, in a world in which nothing goes wrong but one death."""

import time
from dataclasses import dataclass

from elrun.rendezvous.node.procedures import RoundMachine
from elrun.rendezvous.protocol.records import Limits
from elrun.rendezvous.protocol.timing import Timing

from .connection import ServerConnection
from .keys import RUN
from .node import Participant
from .quiet import QUIET
from .server import Server
from .sites import enter
from .world import World

MEETING_S = 30.0


class _Node(Participant):
    """A node whose way to the store never fails."""

    def __init__(self, world, server, number, count):
        super().__init__(world, f"node{number}", RUN, Limits(count, count), Timing())
        self._server = server

    def connect(self, forming, hear):
        enter(ServerConnection(self._server, self, QUIET), forming, hear)


@dataclass(frozen=True)
class Meeting:
    """How a round of many nodes went.

    Args:
        ranks: The group ranks of all nodes, sorted.
        lost: The group rank of the node that died.
        heard: What the other nodes then knew: the phase of each, and which ranks were lost.
        cpu_s: Seconds of CPU that all of it took.
    """

    ranks: list[int]
    lost: int
    heard: set[tuple[object, tuple[int, ...]]]
    cpu_s: float


def meet(count):
    """Let so many nodes meet, lose one, and hear of that."""
    began_s = time.process_time()
    world = World(1)
    server = Server(QUIET)
    nodes = [_Node(world, server, number, count) for number in range(count)]
    met = []
    for node in nodes:
        node.soon(node.ask, RoundMachine.next_round, (), lambda *answer: met.append(answer))
    world.run_until(MEETING_S, lambda: len(met) == count)
    ranks = sorted(place.group_rank for (_, place), _ in met)
    *others, last = nodes
    last.kill()
    world.run_until(world.now + MEETING_S, lambda: nodes[0].rounds.state.verdict is not None)
    world.run_until(world.now + 1)
    states = [node.rounds.state for node in others]
    return Meeting(
        ranks,
        last.rounds.state.place.group_rank,
        {(state.phase, state.verdict and state.verdict.lost) for state in states},
        time.process_time() - began_s,
    )
