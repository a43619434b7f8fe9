"""Let many light clients meet over a real etcd: one loop asks what N nodes ask in a first round.

    python benchmarks/crowd_etcd.py 256

Prints, as JSON, the seconds, and the CPU seconds of etcd and of this process. ``etcd_rounds.py`` in
``tests/benchmarks`` lets whole nodes do the same: what they take beyond this is their own.
"""

import json
import resource
import select
import socket
import sys
import time

from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.etcd.v3_client import encode
from proc import children_of, cpu_s

READ_BYTES = 64 << 10
PLACES_AT_ONCE = 60
# About as long as those of elrun's nodes.
RECORD, PLACE = b"r" * 190, b"p" * 220
LEASE = "77"
KEPT = {"key": encode(b"freed"), "target": "VERSION", "result": "LESS", "version": "1"}


def request(path, body):
    text = json.dumps(body)
    head = f"POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


def transaction(compare, *success):
    return request("kv/txn", {"compare": compare, "success": success, "failure": []})


def put(key, value=b""):
    return {"request_put": {"key": encode(key), "value": encode(value), "lease": LEASE}}


def read(key):
    return {"request_range": {"key": encode(key), "range_end": encode(key + b"\1")}}


def is_absent(key):
    return {"key": encode(key), "target": "VERSION", "result": "EQUAL", "version": "0"}


def take_seat(number):
    mark = b"asked/%d" % number
    return transaction([is_absent(mark), KEPT], put(b"seats\0001"), put(mark), read(b"seats"))


def write_record(number):
    key = b"node/%d" % number
    reads = read(b"place/%d" % number), read(b"verdict")
    return transaction([is_absent(key), KEPT], put(key, RECORD), *reads)


def watch(number):
    key = b"place/%d" % number
    return request(
        "watch", {"create_request": {"key": encode(key), "range_end": encode(key + b"\1")}}
    )


def write_places(numbers):
    pairs = [(put(b"place/%d" % n, PLACE), put(b"beat/%d" % n, b"0")) for n in numbers]
    return transaction([KEPT], *(each for pair in pairs for each in pair))


def answers(connections, requests, is_whole):
    """Send each connection its request, if there are any; return when each answer is whole."""
    for connection, each in zip(connections, requests, strict=False):
        connection.sendall(each)
    waiting = {connection.fileno(): (connection, bytearray()) for connection in connections}
    polled = select.epoll()
    for number in waiting:
        polled.register(number, select.EPOLLIN)
    while waiting:
        for number, _ in polled.poll():
            connection, text = waiting[number]
            text += connection.recv(READ_BYTES)
            if is_whole(text):
                del waiting[number]
                polled.unregister(number)


def is_answer(text):
    head, blank, body = text.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(blank) and (len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n"))


def meet(address, count):
    nodes = [socket.create_connection(address) for _ in range(count)]
    answers(nodes[:1], [request("lease/grant", {"TTL": "75", "ID": LEASE})], is_answer)
    began_at = time.monotonic()
    answers(nodes, [transaction([is_absent(b"round")], put(b"round"))] * count, is_answer)
    answers(nodes, map(take_seat, range(count)), is_answer)
    answers(nodes, map(write_record, range(count)), is_answer)
    streams = [socket.create_connection(address) for _ in range(count)]
    answers(streams, map(watch, range(count)), lambda text: b'"created"' in text)
    for first in range(0, count, PLACES_AT_ONCE):
        numbers = range(first, min(first + PLACES_AT_ONCE, count))
        answers(nodes[:1], [write_places(numbers)], is_answer)
    answers(streams, [], lambda text: b'"events"' in text)
    return time.monotonic() - began_at


def cpu_of(server):
    """Return the CPU seconds of the process that runs etcd, and of those that it has started."""
    return sum(map(cpu_s, _family(server._process.pid)))  # noqa: SLF001  its only public sign is its address


def _family(pid):
    return [pid, *(each for child in children_of(pid) for each in _family(child))]


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with EtcdServer(v2=False) as server:
        host, _, port = server.get_endpoint().rpartition(":")
        here, there = time.process_time(), cpu_of(server)
        cost = {
            "seconds": meet((host, int(port)), int(sys.argv[1])),
            "CPU of etcd": cpu_of(server) - there,
            "CPU of the loop": time.process_time() - here,
        }
    print(json.dumps({name: round(figure, 2) for name, figure in cost.items()}))


if __name__ == "__main__":
    main()
