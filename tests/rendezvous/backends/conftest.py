"""Nodes of static jobs."""

import pytest
from elrun.rendezvous.network.ports import PortClaim
from static_kit import Nodes


@pytest.fixture(name="nodes")
def _nodes():
    claim = PortClaim.take()
    nodes = Nodes(claim.port)
    yield nodes
    nodes.close()
    claim.release()
