"""A node that reaches for the store of its run."""

from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
from round_kit import TestNode

HERE = "127.0.0.1"


def node(endpoint, **config):
    handler = get_rendezvous_handler(RendezvousParameters("c10d", endpoint, "run", 2, 2, **config))
    joined = TestNode(handler, None)
    handler.subscribe(joined.changed.set)
    return joined
