"""What ``elrun doctor`` runs on each node of a job: it measures what lies between the nodes.

    doctor_worker.py FACTS RESULT

FACTS is a JSON object about this node, which the nodes compare. RESULT is the file for what all of
them have found, as one JSON object. The script belongs to no package: the interpreter of the
workers may have no elrun. What fails is a finding, and ends nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch names it so
from torch.distributed.rendezvous import rendezvous

PATIENCE_S = 30.0
CONNECT_S = 10.0
ROUND_TRIPS = 20
BLOCK_BYTES = 1 << 20
BLOCKS = 16
MOST_NODES_FOR_ALL_PAIRS = 32
REDUCED_FLOATS = 1 << 20
REDUCTIONS = 5

_CLOCK = struct.Struct("!d")


def main() -> None:
    """Compare, measure, and write down what was found."""
    facts, result = json.loads(sys.argv[1]), sys.argv[2]
    store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=PATIENCE_S)))
    mine = {
        **facts,
        "rank": rank,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "pairs": {},
        "collectives": {},
    }
    door = Door(rank)
    _tell(store, f"address/{rank}", door.address)
    for other in partners(rank, size):
        mine["pairs"][str(other)] = measure(store, door, rank, other)
    mine["gloo_address"] = _own_address()
    _tell(store, f"is whole/{rank}", all("problem" not in each for each in mine["pairs"].values()))
    if all(_hear(store, f"is whole/{each}") for each in range(size)):
        # Over a connection that is broken, a collective would only wait for its time-out.
        for backend in ("gloo", "nccl"):
            if backend == "gloo" or (dist.is_nccl_available() and torch.cuda.is_available()):
                mine["collectives"][backend] = reduce_together(store, backend, rank, size)
    _tell(store, f"found/{rank}", mine)
    everything = [_hear(store, f"found/{each}") for each in range(size)]
    with open(f"{result}.new", "w", encoding="utf-8") as file:
        json.dump(everything, file)
    os.replace(f"{result}.new", result)
    # The store may be rank 0's: it stays until all have read it.
    if store.add("readers", 1) == size:
        _tell(store, "all have read", True)
    _hear(store, "all have read")


def partners(rank: int, size: int) -> list[int]:
    """Return the ranks to measure with, so that at each step all pairs are disjoint.

    With many nodes those are the neighbours and rank 0 only.
    """
    if size > MOST_NODES_FOR_ALL_PAIRS:
        wanted = {(rank + 1) % size, (rank - 1) % size, *((0,) if rank else range(1, size))}
        return sorted(wanted - {rank})
    players = size + size % 2
    order = []
    for step in range(players - 1):
        if rank == players - 1:
            other = step * players // 2 % (players - 1)
        else:
            other = (step - rank) % (players - 1)
            other = players - 1 if other == rank else other
        order.append(other)
    return [other for other in order if other < size and other != rank]


class Door:
    """Where higher ranks connect to this one, each in its own time."""

    def __init__(self, rank: int) -> None:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)
            address = host if rank == 0 else probe.getsockname()[0]
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(("", 0))
        self._listener.listen()
        self._listener.settimeout(2 * CONNECT_S)
        self._arrived: dict[int, socket.socket] = {}
        self.address = [address, self._listener.getsockname()[1]]

    def take(self, other: int) -> socket.socket:
        """Return the connection of a rank; who comes before its turn is kept.

        Raises:
            OSError: It does not come in time.
        """
        deadline = time.monotonic() + 2 * CONNECT_S
        while other not in self._arrived:
            if time.monotonic() > deadline:
                raise TimeoutError(f"rank {other} did not connect within {2 * CONNECT_S:g} s")
            line, _ = self._listener.accept()
            line.settimeout(PATIENCE_S)
            try:
                (rank,) = struct.unpack("!I", _read(line, 4))
            except (OSError, EOFError):  # somebody else's
                line.close()
            else:
                self._arrived[rank] = line
        return self._arrived.pop(other)


def measure(store: Any, door: Door, rank: int, other: int) -> dict[str, Any]:
    """Return round trip, throughput and clock difference towards another rank, or what is wrong."""
    try:
        if rank < other:
            with door.take(other) as line:
                _echo(line)
            return {}
        host, port = _hear(store, f"address/{other}")
        with socket.create_connection((host, port), timeout=CONNECT_S) as line:
            line.settimeout(PATIENCE_S)
            line.sendall(struct.pack("!I", rank))
            return _measured(line)
    except (OSError, EOFError) as error:
        return {"problem": f"{type(error).__name__}: {error}"}


def reduce_together(store: Any, backend: str, rank: int, size: int) -> dict[str, Any]:
    """Return how fast the ranks add up numbers together, or what is wrong."""
    try:
        dist.init_process_group(
            backend,
            store=PrefixStore(backend, store),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=PATIENCE_S),
        )
    except Exception as error:  # noqa: BLE001  whatever a backend raises is what was looked for
        return {"problem": _line_of(error)}
    try:
        device = "cuda" if backend == "nccl" else "cpu"
        numbers = torch.ones(REDUCED_FLOATS, device=device)
        dist.all_reduce(numbers)
        started = time.monotonic()
        for _ in range(REDUCTIONS):
            dist.all_reduce(numbers)
        if backend == "nccl":
            torch.cuda.synchronize()
        took_s = (time.monotonic() - started) / REDUCTIONS
    except Exception as error:  # noqa: BLE001  the same
        return {"problem": _line_of(error)}
    finally:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()
    return {"bytes": numbers.numel() * 4, "seconds": took_s}


def _echo(line: socket.socket) -> None:
    for _ in range(ROUND_TRIPS):
        _read(line, _CLOCK.size)
        line.sendall(_CLOCK.pack(time.time()))
    room = bytearray(BLOCK_BYTES)
    for _ in range(BLOCKS):
        _fill(line, room)
    line.sendall(b".")


def _measured(line: socket.socket) -> dict[str, float]:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    best_s, ahead_s = float("inf"), 0.0
    for _ in range(ROUND_TRIPS):
        started, sent_at = time.monotonic(), time.time()
        line.sendall(_CLOCK.pack(0))
        (theirs,) = _CLOCK.unpack(_read(line, _CLOCK.size))
        took_s = time.monotonic() - started
        if took_s < best_s:
            best_s, ahead_s = took_s, theirs - (sent_at + took_s / 2)
    block, started = bytes(BLOCK_BYTES), time.monotonic()
    for _ in range(BLOCKS):
        line.sendall(block)
    _read(line, 1)
    took_s = time.monotonic() - started
    return {
        "round_trip_s": best_s,
        "bytes_per_s": BLOCKS * BLOCK_BYTES / took_s,
        "clock_ahead_s": ahead_s,
    }


def _read(line: socket.socket, count: int) -> bytes:
    room = bytearray(count)
    _fill(line, room)
    return bytes(room)


def _fill(line: socket.socket, room: bytearray) -> None:
    done, whole = 0, memoryview(room)
    while done < len(room):
        got = line.recv_into(whole[done:])
        if not got:
            raise EOFError("the connection was closed")
        done += got


def _own_address() -> str:
    """Return the address that gloo binds to, unless GLOO_SOCKET_IFNAME says another."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def _line_of(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _tell(store: Any, key: str, value: object) -> None:
    store.set(key, json.dumps(value))


def _hear(store: Any, key: str) -> Any:
    store.wait([key], timedelta(seconds=10 * PATIENCE_S))
    return json.loads(store.get(key))


if __name__ == "__main__":
    main()
