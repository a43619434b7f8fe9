"""Stores whose keys `make soak` counts: one that it serves itself, and an etcd."""

from __future__ import annotations

import base64
import json
import socket
import urllib.request

from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.server.server import StoreServer
from round_kit import AllGuests

# What a range of all keys ends with, in etcd's words.
_ALL = base64.b64encode(b"\0").decode()


class ServedStore:
    """The store of c10d in this process, for a job that finds it there already."""

    def __init__(self) -> None:
        self._server = StoreServer(AllGuests(), "soak")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._server.start()
        self._server.listen(self._listener)

    def keys(self) -> int:
        """Return how many keys are there."""
        found: list[int] = []
        table = self._server._connections._answers._table
        self._server._do(lambda: found.append(len(table._values)))
        return found[0]

    def close(self) -> None:
        self._server.close()
        self._listener.close()


class EtcdStore:
    """An etcd of one member."""

    def __init__(self) -> None:
        self._server = EtcdServer(v2=False)
        self._server.start()
        self.endpoint = self._server.get_endpoint()

    def keys(self) -> int:
        """Return how many keys are there."""
        question = json.dumps({"key": _ALL, "range_end": _ALL, "count_only": True}).encode()
        request = urllib.request.Request(f"http://{self.endpoint}/v3/kv/range", question)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(json.load(answer).get("count", 0))

    def close(self) -> None:
        self._server.stop()
