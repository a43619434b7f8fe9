"""Several endpoints as the simulator has them: when its witness may take it that all is settled."""

import pytest
from elrun.rendezvous.protocol.records import Limits, Roster
from simulator.history import History
from simulator.world import Machine

SEED_WITH_ENDPOINTS = 4


@pytest.fixture(name="history")
def _history():
    return History(SEED_WITH_ENDPOINTS)


def resident(history, number):
    """Return a machine at an endpoint, on which nothing runs."""
    node = Machine(history.world, f"node{number}")
    node.home, node.connections, node.place, node.server = number, [], None, None
    history.nodes.append(node)
    return node


def test_a_round_is_over_with_its_store_though_all_its_members_had_finished(history):
    """Who waited beside it goes to the next endpoint, and may form another round there."""
    host, spare = resident(history, 0), resident(history, 1)
    server = spare.server = history.site.serve(host)
    witness = history.site.witness_of(spare)
    running = witness.round(0)
    running.roster = Roster(0, 0, 0, Limits(1, 1), ())
    running.members, running.marked = [host], {0}
    witness.round(1).sit(spare, 0)
    host.kill()
    assert history.site.is_settled()

    history.site.shut(server)

    assert not history.site.is_settled()
