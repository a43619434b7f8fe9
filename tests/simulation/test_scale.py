"""A round of very many nodes, in one process."""

import gc

import pytest
from elrun.rendezvous.node.round_state import Phase
from simulator.scale import meet


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
    meeting = meet(count)

    assert list(range(count)) == meeting.ranks
    assert {(Phase.IDLE, (meeting.lost,))} == meeting.heard
