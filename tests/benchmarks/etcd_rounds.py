"""Let N nodes meet over a real etcd of one member, and once more after a failure; print the cost.

    python tests/benchmarks/etcd_rounds.py 256

For each of the two rounds, as JSON: the seconds until the last node is in the round; the CPU
seconds of this process, which plays all nodes, and of etcd; and for each node the transactions,
other requests, and streams of watches. Each node is a thread of this process with connections of
its own, and gives no sign of life meanwhile: ``docs/scale.md`` counts those apart.
"""

import collections
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from crowd_etcd import cpu_of
from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.protocol.timing import timing_of
from elrun.rendezvous.stores.etcd import etcd_store, v3_client
from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.etcd.settings import etcd_settings
from elrun.rendezvous.stores.etcd.v3 import EtcdV3Store
from elrun.rendezvous.stores.store import Connection
from meeting import STACK_BYTES, meet

LIMIT_S = 120
NEVER_S = 1e6


COUNTS = collections.Counter()


class CountingGateway(v3_client.Gateway):
    """Counts what all nodes ask of etcd."""

    def _ask(self, request):
        path = request.split(b" ", 2)[1].rpartition(b"/")[2]
        COUNTS["transactions" if path == b"txn" else "other requests"] += 1
        return super()._ask(request)

    def stream(self, path, body):
        COUNTS["streams"] += 1
        return super().stream(path, body)


def handlers_over(server, count):
    """Return the nodes of one run, whose connections are open."""
    params = RendezvousParameters("etcd-v3", server.get_endpoint(), "bench", count, count)
    settings = etcd_settings(params)
    timing = timing_of(params)._replace(heartbeat_s=NEVER_S, patience_s=4 * NEVER_S)
    handlers = []
    for _ in range(count):
        gateways = [CountingGateway(settings, endpoint) for endpoint in settings.endpoints]
        store = EtcdV3Store(settings.name, gateways, "run/bench", LIMIT_S, pulse_s=NEVER_S)
        store.open()
        connection = Connection(store, "127.0.0.1")
        handler = RoundRendezvous(params, lambda _, it=connection: it, timing)
        handler.describe(NodeProfile(8, max_restarts=1))
        handlers.append(handler)
    return handlers


def measure(server, handlers):
    """Let all nodes meet; return what that has cost."""
    COUNTS.clear()
    here, there = time.process_time(), cpu_of(server)
    joins = [lambda it=each: it.next_rendezvous().world_size for each in handlers]
    seconds = meet(joins, LIMIT_S)
    cost = {
        "seconds": seconds,
        "CPU of all nodes": time.process_time() - here,
        "CPU of etcd": cpu_of(server) - there,
    }
    cost |= {name: each / len(handlers) for name, each in sorted(COUNTS.items())}
    return {name: round(figure, 2) for name, figure in cost.items()}


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(STACK_BYTES)
    sys.setswitchinterval(1)  # see meeting.py
    etcd_store.PROBE_S = v3_client.REQUEST_S = LIMIT_S  # one interpreter plays all nodes
    with EtcdServer(v2=False) as server:
        handlers = handlers_over(server, int(sys.argv[1]))
        rounds = [measure(server, handlers)]
        handlers[0].conclude(Verdict(VerdictKind.WORKER_FAILED, 0, "for another round"))
        rounds.append(measure(server, handlers))
        print(json.dumps(rounds), flush=True)
        server.stop()
        os._exit(0)  # the nodes need not leave


if __name__ == "__main__":
    main()
