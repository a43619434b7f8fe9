"""Nodes that were told their ranks, over real sockets at one port of this host."""

import threading
from concurrent.futures import Future

from elrun.rendezvous.api.handler import NodeProfile
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler

LONG_S = 30


class Nodes:
    """Makes nodes of one job at one port."""

    def __init__(self, port):
        self.port = port
        self.handlers = []

    def node(self, rank, nodes=2, workers=1, role="train", run="run", host="127.0.0.1", **config):
        endpoint = f"{host}:{self.port}"
        handler = get_rendezvous_handler(
            RendezvousParameters("static", endpoint, run, nodes, nodes, rank=rank, **config)
        )
        handler.describe(NodeProfile(workers, role, 3))
        self.handlers.append(handler)
        return handler

    def some(self, count, **config):
        return [self.node(rank, count, **config) for rank in range(count)]

    def close(self):
        for handler in reversed(self.handlers):
            handler.shutdown()


def join(handler):
    future = Future()

    def run():
        try:
            future.set_result(handler.next_rendezvous())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def joining(handler):
    """Return the join of a node, once it waits for others."""
    future = join(handler)
    while "missing" not in handler.describe_wait():
        assert not future.done(), future.result()
    return future
