"""Let N nodes meet, each a thread of this process, and tell what that cost, as JSON.

    python benchmarks/meeting.py c10d 128             elrun's rendezvous over its store server
    python benchmarks/meeting.py etcd-v3 64           over a real etcd
    python benchmarks/meeting.py memory 1024          over a dictionary: the protocol alone
    python benchmarks/meeting.py today 64             torchrun's own handler over one TCPStore
    python benchmarks/meeting.py floor 128            what any node must ask of a TCPStore, no more

Every node has connections of its own, which are open before the clock starts: on a cluster each
node opens its own at the same time as all others, here one machine would do the work of all. An
operation is a call to the store; its bytes are those of keys and values, both ways. Signs of life
belong to no round and are counted apart; all nodes give one each five seconds, as torchrun's do.

All nodes share one interpreter, which runs one of them at a time. Among a thousand, each that asks
the system or the store for anything, or starts a thread, queues up for its next turn, and most of
the seconds go by in that queue, which no cluster has. ``floor`` tells what is left of them for
nodes that take a seat, write a record and wait for a place, and do nothing else at all.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from elrun.rendezvous.api.handler import NodeProfile
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.protocol.timing import timing_of
from elrun.rendezvous.stores.loop import Loop
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.store import Connection, Told, Will, leave_will, read_by

JOIN_TIMEOUT_S = 300
# torchrun's. At elrun's own pace, a thousand nodes keep one interpreter busy with living.
HEARTBEAT_S, PATIENCE_S = 5, 15
STACK_BYTES = 256 << 10
RECORD_BYTES = 200  # of a node or a place, about as long as elrun's


class Meter:
    """What all nodes together asked of the store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.operations = 0
        self.bytes = 0
        self.beats = 0

    def count(self, keys: Iterable[str], values: Iterable[str | bytes | None]) -> None:
        """Take note of a call, by the keys and values that went to or fro."""
        names = list(keys)
        if all("beat/" in name for name in names):
            with self._lock:
                self.beats += 1
            return
        with self._lock:
            self.operations += 1
        self.add_bytes([*names, *values])

    def add_bytes(self, texts: Iterable[str | bytes | None]) -> None:
        """Take note of what went to or fro."""
        size = sum(len(text) for text in texts if text)
        with self._lock:
            self.bytes += size


class MeteredStore:
    """A store of elrun's whose calls are counted."""

    def __init__(self, store: Any, meter: Meter) -> None:
        self.store = store
        self.meter = meter

    def add(self, key: str, amount: int) -> int:
        self.meter.count([key], [b"12345678"])
        return self.store.add(key, amount)

    def set(self, values: Mapping[str, bytes]) -> None:
        self.meter.count(values, values.values())
        self.store.set(values)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        values = self.store.get(keys)
        self.meter.count(keys, values)
        return values

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        standing = self.store.create(key, value, instead_of)
        self.meter.count([key], [value, instead_of, standing])
        return standing

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        self.meter.count(keys, [])
        values = self.store.wait(keys, timeout_s)
        self.meter.add_bytes(values or [])
        return values

    def leave_will(self, will: Will) -> None:
        self.meter.count(will.values, will.values.values())  # a sign of life
        leave_will(self.store, will)

    def read_by(self, loop: Loop) -> None:
        read_by(self.store, loop)

    def close(self) -> None:
        self.store.close()


class MeteredWatcher(MeteredStore):
    """The same, of a store that reports the end of a wait by a call."""

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        self.meter.count(keys, [])

        def take_note(told: Told) -> None:
            self.meter.add_bytes(told if isinstance(told, list) else [])
            hear(told)

        return self.store.watch(keys, take_note)


class MeteredTorchStore:
    """What torchrun's backend asks of a TCPStore, counted."""

    def __init__(self, store: Any, meter: Meter) -> None:
        self.store = store
        self.meter = meter

    def get(self, key: str) -> bytes:
        value = self.store.get(key)
        self.meter.count([key], [value])
        return value

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        standing = self.store.compare_set(key, expected, desired)
        self.meter.count([key], [expected, desired, standing])
        return standing


class BareStore:
    """A TCPStore as it is: a call blocks the node's own thread, for as long as it takes."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def add(self, key: str, amount: int) -> int:
        return self.client.add(key, amount)

    def set(self, values: Mapping[str, bytes]) -> None:
        self.client.multi_set(list(values), list(values.values()))

    def wait(self, keys: Sequence[str], _timeout_s: float | None) -> list[bytes]:
        return self.client.multi_get(list(keys))


@contextlib.contextmanager
def server_stores(count: int) -> Iterator[list[Any]]:
    """Give each node an open connection to one store server."""
    from elrun.rendezvous.network.addresses import Endpoint
    from elrun.rendezvous.network.ports import free_port
    from elrun.rendezvous.stores.server.connector import StoreConnector

    endpoint = Endpoint("127.0.0.1", free_port())
    stores = [
        StoreConnector(endpoint, number == 0, None, 30)(threading.Event()).store
        for number in range(count)
    ]
    yield stores
    for store in reversed(stores):
        store.close()


@contextlib.contextmanager
def memory_stores(count: int) -> Iterator[list[Any]]:
    shelf = MemoryStore()
    yield [shelf.connect() for _ in range(count)]


@contextlib.contextmanager
def etcd_stores(count: int) -> Iterator[list[Any]]:
    """Give each node a store over one real etcd."""
    from elrun.rendezvous.stores.etcd import etcd_store
    from elrun.rendezvous.stores.etcd import v3_client as etcd_v3_client
    from elrun.rendezvous.stores.etcd.server import EtcdServer
    from elrun.rendezvous.stores.etcd.settings import etcd_settings
    from elrun.rendezvous.stores.etcd.v3 import EtcdV3Store
    from elrun.rendezvous.stores.etcd.v3_client import Gateway

    # A thousand clients of one interpreter wait for each other, much longer than for etcd. And a
    # node that beats twice a second never asks etcd whether it still answers.
    for module in (etcd_store, etcd_v3_client):
        module.REQUEST_S = JOIN_TIMEOUT_S
    etcd_store.PROBE_S = JOIN_TIMEOUT_S
    with EtcdServer(v2=False) as server:
        params = RendezvousParameters("etcd-v3", server.get_endpoint(), "bench", 1, count)
        settings = etcd_settings(params)
        stores = []
        for _ in range(count):
            gateways = [Gateway(settings, endpoint) for endpoint in settings.endpoints]
            stores.append(EtcdV3Store(settings.name, gateways, "run/bench"))
            stores[-1].open()
        yield stores
        for store in stores:
            store.close()


STORES = {"c10d": server_stores, "memory": memory_stores, "etcd-v3": etcd_stores}


@contextlib.contextmanager
def elrun_nodes(backend: str, count: int, meter: Meter) -> Iterator[list[Callable[[], int]]]:
    """Make elrun's nodes; each function joins and returns the size of the round."""
    params = RendezvousParameters("memory", "", "bench", count, count)
    timing = timing_of(params)._replace(
        join_timeout_s=JOIN_TIMEOUT_S,
        heartbeat_s=HEARTBEAT_S,
        patience_s=PATIENCE_S,
    )
    with STORES[backend](count) as stores:
        handlers = []
        for store in stores:
            metered = MeteredWatcher if hasattr(store, "watch") else MeteredStore
            connection = Connection(metered(store, meter), "127.0.0.1")
            handler = RoundRendezvous(params, lambda _, it=connection: it, timing)
            handler.describe(NodeProfile(8))
            handlers.append(handler)
        yield [lambda it=each: it.next_rendezvous().world_size for each in handlers]


def torch_clients(count: int) -> list[Any]:
    """Return torch's own clients of one server, which the first of them hosts."""
    from elrun.rendezvous.network.ports import free_port
    from torch.distributed import TCPStore

    port, patience = free_port(), timedelta(seconds=JOIN_TIMEOUT_S)
    return [
        TCPStore("127.0.0.1", port, is_master=number == 0, wait_for_workers=False, timeout=patience)
        for number in range(count)
    ]


@contextlib.contextmanager
def torch_nodes(count: int, meter: Meter) -> Iterator[list[Callable[[], int]]]:
    """Make torchrun's nodes over one TCPStore, each with a connection of its own."""
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
        DynamicRendezvousHandler,
        RendezvousTimeout,
    )

    patience = timedelta(seconds=JOIN_TIMEOUT_S)
    stores = torch_clients(count)
    handlers = []
    for store in stores:
        backend = C10dRendezvousBackend(MeteredTorchStore(store, meter), "bench")
        handlers.append(
            DynamicRendezvousHandler.from_backend(
                "bench", store, backend, count, count, timeout=RendezvousTimeout(join=patience)
            )
        )
    yield [lambda it=each: it.next_rendezvous().world_size for each in handlers]


@contextlib.contextmanager
def floor_nodes(count: int, meter: Meter) -> Iterator[list[Callable[[], int]]]:
    """Make nodes that ask the store for what any protocol of theirs must, and think nothing."""
    record = b"x" * RECORD_BYTES

    def join(store: MeteredStore) -> int:
        seat = store.add("seats", 1) - 1
        store.set({f"node/{seat}": record})
        if seat == 0:
            store.wait([f"node/{each}" for each in range(count)], None)
            store.set({f"place/{each}": record for each in range(count)})
        store.wait([f"place/{seat}"], None)
        return count

    stores = [MeteredStore(BareStore(client), meter) for client in torch_clients(count)]
    yield [lambda it=each: join(it) for each in stores]


def meet(nodes: Sequence[Callable[[], int]], limit_s: float) -> float:
    """Let all nodes join at once; return the seconds until the last one is in the round.

    Raises:
        SystemExit: Not all of them came to be there in time.
    """
    begin = threading.Barrier(len(nodes) + 1)
    sizes: list[int | Exception] = []
    arrived = threading.Semaphore(0)

    def join(node: Callable[[], int]) -> None:
        begin.wait()
        try:
            sizes.append(node())
        except Exception as error:  # noqa: BLE001  whatever a thousand threads say is told once
            sizes.append(error)
        arrived.release()

    for node in nodes:
        threading.Thread(target=join, args=(node,), daemon=True).start()
    started_at = time.monotonic()
    begin.wait()
    for _ in nodes:
        if not arrived.acquire(timeout=max(0.0, started_at + limit_s - time.monotonic())):
            raise SystemExit(f"not in {limit_s:g} s")
    seconds = time.monotonic() - started_at
    failed = [size for size in sizes if size != len(nodes)]
    if failed:
        raise SystemExit(f"{len(failed)} failed, such as: {failed[0]}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*STORES, "today", "floor"])
    parser.add_argument("nodes", type=int)
    parser.add_argument("--limit", type=float, default=JOIN_TIMEOUT_S, metavar="SECONDS")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(STACK_BYTES)
    # Each of a thousand threads that want to run would else wake up 200 times a second to say so.
    sys.setswitchinterval(1)
    meter = Meter()
    if options.kind == "today":
        nodes = torch_nodes(options.nodes, meter)
    elif options.kind == "floor":
        nodes = floor_nodes(options.nodes, meter)
    else:
        nodes = elrun_nodes(options.kind, options.nodes, meter)
    try:
        with nodes as joins:
            figures: dict[str, float | str] = {"seconds": meet(joins, options.limit)}
            figures |= {name: getattr(meter, name) for name in ("operations", "bytes", "beats")}
    except SystemExit as failed:
        figures = {"failed": str(failed.code)}
    print(json.dumps(figures), flush=True)
    os._exit(0)  # threads that wait in torch must not see the interpreter go down


if __name__ == "__main__":
    main()
