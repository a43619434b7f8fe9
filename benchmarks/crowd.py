"""Let many light clients meet at one real store server, and tell what that costs its host, as JSON.

    python benchmarks/crowd.py 10000                    one round of 10,000 nodes, and its verdict
    python benchmarks/crowd.py 1024 --secret            with a secret
    python benchmarks/crowd.py 1024 --tls FOLDER        with ca.pem, node.pem and node.key there

The server is that of a ``c10d`` job, in a process of its own. All clients live in this process, in
one loop. Each has a connection of its own, and sends what a node sends in a round: the same
requests, in the same order, with values of the same sizes, each after the answer to the one before.
A client computes nothing, so what is measured is the server. Connections are made before the clock
starts: on a cluster each node makes its own.
"""

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from elrun.rendezvous.api.parameters import TlsFiles
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import free_port
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.round import DOOR
from elrun.rendezvous.protocol.timing import RECONNECT_PATIENCE_S
from elrun.rendezvous.stores.server.channel import Channel
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import Target, dial
from elrun.rendezvous.stores.server.frames import MAX_FRAME_BYTES
from elrun.rendezvous.stores.server.guard import Guard
from elrun.rendezvous.stores.server.hello import Hello
from elrun.rendezvous.stores.server.wire import (
    Add,
    Create,
    LeaveWill,
    Request,
    Set,
    Wait,
    write_request,
)
from elrun.rendezvous.stores.signed import Secret
from elrun.rendezvous.stores.store import Will

HERE = "127.0.0.1"
RUN = RunKeys("crowd")
ROUND = RUN.round(0)
# About as long as those of elrun's nodes.
RECORD, PLACE, VERDICT, MEMBER = b"r" * 190, b"p" * 220, b"v" * 150, b"m" * 190
GONE_MS = int(RECONNECT_PATIENCE_S * 1000)
SET_BYTES = 4 << 20
READ_BYTES = 256 << 10
PATIENCE_S = 300


def guard_of(options: argparse.Namespace) -> Guard:
    secret = Secret(b"open sesame") if options.secret else None
    if not options.tls:
        return Guard(secret)
    from elrun.rendezvous.stores.server.tls import Tls  # with --tls only

    names = ("ca.pem", "node.pem", "node.key")
    return Guard(secret, Tls(TlsFiles(*(f"{options.tls}/{name}" for name in names))))


class Client:
    """One node: its connection, and what it has asked."""

    def __init__(self, crowd: "Crowd", number: int, connection: socket.socket, channel: Channel):
        self.crowd = crowd
        self.number = number
        self.connection = connection
        self.channel = channel
        self.last = 0
        self.unsent = b""
        self.has_unsent = False
        self.steps = self.script()
        channel.set_limit(MAX_FRAME_BYTES)

    def script(self) -> Iterator[list[Request]]:
        """Yield what to send, each after the answer to what was sent before."""
        seat, count = self.number, self.crowd.count
        yield [Create(RUN.record, b"f" * 44, b"")]
        yield [Add(ROUND.seats, 1)]
        waits = LeaveWill(Will({ROUND.seat_beat(seat): b"gone"}, {}, ()), GONE_MS)
        yield [waits, Create(ROUND.node(seat), RECORD, b"")]
        if seat == 0:
            yield [Wait(tuple(ROUND.node(each) for each in range(count)))]
            yield [Add(ROUND.seats, DOOR)]
            yield [Create(ROUND.roster, MEMBER * count, b"")]
            step = SET_BYTES // (len(PLACE) + 32)
            for begin in range(0, count, step):
                places = range(begin, min(begin + step, count))
                yield [Set({ROUND.place(each): PLACE for each in places})]
        yield [Wait((ROUND.place(seat),))]
        gone = Will({ROUND.beat(seat): b"gone"}, {ROUND.verdict: VERDICT}, (ROUND.success(seat),))
        self.crowd.placed += 1
        yield [LeaveWill(gone, GONE_MS), Wait((ROUND.verdict,))]
        self.crowd.told += 1

    def go_on(self) -> None:
        """Send what comes next."""
        frames = []
        for request in next(self.steps, []):
            self.last += 1
            self.crowd.messages += 1
            frames.append(write_request(self.last, request))
        self.say(self.channel.pack(frames))

    def beat(self) -> None:
        """Give a sign of life, beside what is waited for."""
        beat = Set({ROUND.beat(self.number): b"%d" % self.last})
        self.say(self.channel.pack([write_request(self.last + 1, beat)]))

    def say(self, data: bytes) -> None:
        self.crowd.bytes_sent += len(data)
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        try:
            sent = self.connection.send(self.unsent)
        except BlockingIOError:
            sent = 0
        self.unsent = self.unsent[sent:]
        if bool(self.unsent) != self.has_unsent:
            self.has_unsent = bool(self.unsent)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
            self.crowd.selector.modify(self.connection, events, self)

    def hear(self) -> None:
        """Read; go on once the last request is answered."""
        data = self.connection.recv(READ_BYTES)
        if not data:
            raise SystemExit("the server has let a client go")
        self.crowd.bytes_received += len(data)
        for message in self.channel.receive(data):
            if message["id"] == self.last and "more" not in message:
                self.crowd.messages += 1
                self.go_on()
            elif message["id"] > self.last:
                self.crowd.beats += 1


class Crowd:
    """All clients.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.selector = selectors.DefaultSelector()
        self.clients: list[Client] = []
        self.placed = self.told = self.messages = self.bytes_sent = self.bytes_received = (
            self.beats
        ) = 0

    def connect(self, port: int, guard: Guard) -> None:
        target = Target(Endpoint(HERE, port), guard)
        for number in range(self.count):
            hello = Hello(RUN.run_id, "host", session=os.urandom(16).hex())
            link = dial(target, hello, PATIENCE_S, PATIENCE_S)
            connection, channel = link._connection, link._channel  # noqa: SLF001  one loop reads all
            connection.setblocking(False)
            client = Client(self, number, connection, channel)
            self.selector.register(connection, selectors.EVENT_READ, client)
            self.clients.append(client)

    def meet(self) -> float:
        """Return the seconds until all have their places, and wait for the verdict."""
        began_at = time.monotonic()
        for client in self.clients:
            client.go_on()
        while self.placed < self.count:
            self.turn(began_at)
        return time.monotonic() - began_at

    def beat(self) -> float:
        """Return the seconds until a sign of life of each has been written."""
        began_at = time.monotonic()
        for client in self.clients:
            client.beat()
        while self.beats < self.count:
            self.turn(began_at)
        return time.monotonic() - began_at

    def hear_verdict(self, store: StoreClient) -> float:
        """Return the seconds until all have heard the verdict."""
        began_at = time.monotonic()
        store.create(ROUND.verdict, VERDICT)
        while self.told < self.count:
            self.turn(began_at)
        return time.monotonic() - began_at

    def turn(self, began_at: float) -> None:
        if time.monotonic() - began_at > PATIENCE_S:
            raise SystemExit(f"not in {PATIENCE_S} s")
        for key, events in self.selector.select(1):
            if events & selectors.EVENT_WRITE:
                key.data.flush()
            if events & selectors.EVENT_READ:
                key.data.hear()


def reach(port: int, guard: Guard, *, is_host: bool = False) -> StoreClient:
    """Host the store, or connect to it."""
    where = Endpoint(HERE, port)
    connect = StoreConnector(where, is_host, None, PATIENCE_S, run_id=RUN.run_id, guard=guard)
    return connect(threading.Event()).store


def serve(options: argparse.Namespace) -> None:
    """Host the store until standard input ends; tell what it has cost whenever a line comes."""
    store = reach(options.port, guard_of(options), is_host=True)
    print("ready", flush=True)
    for _ in sys.stdin:
        status = Path("/proc/self/status").read_text()
        figures = dict(line.split(":", 1) for line in status.splitlines())
        cost = {"cpu_s": time.process_time(), "megabytes": int(figures["VmRSS"].split()[0]) / 1024}
        print(json.dumps(cost), flush=True)
    store.close()


class Host:
    """The server's process."""

    def __init__(self, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, str(options.nodes), "--serve"]
        command += ["--port", str(options.port)]
        command += ["--secret"] if options.secret else []
        command += ["--tls", options.tls] if options.tls else []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.read()

    def read(self) -> str:
        return self.process.stdout.readline()

    def cost(self) -> dict[str, float]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.read())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(options: argparse.Namespace) -> dict[str, float]:
    host = Host(options)
    guard = guard_of(options)
    empty = host.cost()
    crowd = Crowd(options.nodes)
    crowd.connect(options.port, guard)
    there = host.cost()
    crowd.messages = crowd.bytes_sent = crowd.bytes_received = 0
    round_s = crowd.meet()
    met = host.cost()
    store = reach(options.port, guard)
    crowd_messages, crowd_bytes = crowd.messages, crowd.bytes_sent + crowd.bytes_received
    before_beats = host.cost()
    beats_s = crowd.beat()
    before = host.cost()
    verdict_s = crowd.hear_verdict(store)
    told = host.cost()
    figures = {
        "nodes": options.nodes,
        "round_s": round_s,
        "beats_s": beats_s,
        "verdict_s": verdict_s,
        "host_cpu_connections_s": there["cpu_s"] - empty["cpu_s"],
        "host_cpu_round_s": met["cpu_s"] - there["cpu_s"],
        "host_cpu_beats_s": before["cpu_s"] - before_beats["cpu_s"],
        "host_cpu_verdict_s": told["cpu_s"] - before["cpu_s"],
        "host_megabytes_empty": empty["megabytes"],
        "host_megabytes_connected": there["megabytes"],
        "host_megabytes": max(met["megabytes"], told["megabytes"]),
        "messages_of_a_node": crowd_messages / options.nodes,
        "bytes_of_a_node": crowd_bytes / options.nodes,
    }
    store.close()
    host.close()
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", type=int)
    parser.add_argument("--secret", action="store_true")
    parser.add_argument("--tls", default="", metavar="FOLDER")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        serve(options)
        return
    options.port = options.port or free_port()
    print(json.dumps(measure(options)), flush=True)


if __name__ == "__main__":
    main()
