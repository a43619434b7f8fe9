"""A round of very many nodes, in one process."""

import gc

import pytest
from elrun.rendezvous.node.machine import Question
from elrun.rendezvous.node.round_state import Phase
from elrun.rendezvous.protocol.records import Limits
from elrun.rendezvous.protocol.timing import Timing
from simulator.connection import ServerConnection
from simulator.keys import RUN
from simulator.node import Participant
from simulator.quiet import QUIET
from simulator.server import Server
from simulator.sites import enter
from simulator.world import World

MEETING_S = 30.0


class Node(Participant):
    """A node whose way to the store never fails."""

    def __init__(self, world, server, number, count):
        super().__init__(world, f"node{number}", RUN, Limits(count, count), Timing())
        self._server = server

    def connect(self, forming, hear):
        enter(ServerConnection(self._server, self, QUIET), forming, hear)


@pytest.fixture(autouse=True)
def _no_collections():
    """Look for no garbage among a million objects that are all in use."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.timeout(600)  # it only computes: a busy machine takes longer
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.integration)])
def test_nodes_meet_however_many_they_are(count):
    """Each rank is given once, and the lost node of a round of thousands is found."""
    world = World(1)
    server = Server(QUIET)
    nodes = [Node(world, server, number, count) for number in range(count)]
    met = []
    for node in nodes:
        node.soon(node.ask, Question.NEXT_ROUND, (), lambda *answer: met.append(answer))
    world.run_until(MEETING_S, lambda: len(met) == count)
    ranks = sorted(place.group_rank for (_, place), _ in met)
    nodes[-1].kill()
    world.run_until(world.now + MEETING_S, lambda: nodes[0].rounds.state.verdict is not None)
    world.run_until(world.now + 1)
    verdicts = {(node.rounds.state.phase, node.rounds.state.verdict.lost) for node in nodes[:-1]}

    assert list(range(count)) == ranks
    assert {(Phase.IDLE, (nodes[-1].rounds.state.place.group_rank,))} == verdicts
