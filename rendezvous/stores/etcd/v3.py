"""The store over etcd's v3 API.

*Counters.* etcd has none, and a compare-and-swap of one value by many nodes at once needs as many
attempts as there are nodes. But it counts how often a key was put: its version. So to add an
amount is to put the key that bears this amount, below the counter's name, and to read, in the same
transaction, all keys below that name; the counter's value is the sum of amount times version. That
is one request, which never conflicts with another. There are few amounts, so the read is short.

*Once, even if the reply is lost.* The transaction puts a key with a random name of its own, too,
and does nothing if that is there already. Then the value is read as of the revision at which it was
put. (``create`` needs no such thing: repeated, it finds what it has written itself.)

*Waiting.* A wait reads the keys, and, if one is missing, watches from the next revision on: nothing
is missed in between, and nothing is asked twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ...protocol.counters import count_in
from ...protocol.timing import STORE_PATIENCE_S
from .etcd_store import (
    LEASE_S,
    PREFIX,
    PULSE_S,
    EtcdStore,
    Snapshot,
)
from .failover import Refused
from .v3_client import Gateway, decode, encode
from .v3_watch import AFTER_COUNTERS, COUNTED, StreamWatch

# etcd takes 128 operations and 1.5 MiB in a transaction, unless told otherwise.
_MAX_OPERATIONS = 120
_MAX_BYTES = 1 << 20


class EtcdV3Store(EtcdStore[Gateway]):
    """A ``Store`` over the members of an etcd; ``open`` comes first.

    Args:
        name: What to call them in a sentence.
        gateways: The members.
        run: Name of what shares a lease, and a part of every key.
        patience_s: For how long a call is tried.
        lease_s: How long keys stay after the last refreshment.
        pulse_s: Seconds between two refreshments of the lease.
        prefix: What all keys begin with.
    """

    def __init__(
        self,
        name: str,
        gateways: Sequence[Gateway],
        run: str,
        patience_s: float = STORE_PATIENCE_S,
        lease_s: int = LEASE_S,
        pulse_s: float = PULSE_S,
        prefix: str = PREFIX,
    ) -> None:
        super().__init__(name, gateways, patience_s, pulse_s)
        self._gateways = gateways
        self._prefix = prefix.encode()
        digest = sha256(self._name_of(run)).digest()
        self._lease = str(int.from_bytes(digest[:8], "big") >> 1 or 1)
        self._lease_s = lease_s
        self._sender = os.urandom(12).hex()

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``. An amount of 0 reads only."""
        if amount == 0:
            return count_in(self._read([key])[0].get(key))
        name = self._name_of(key)
        mark = self._name_of(f"asked/{self._sender}/{os.urandom(8).hex()}")
        counters = {"request_range": _range_below(name)}
        request = {
            "compare": [_is_absent(mark)],
            "success": [
                self._put(name + COUNTED + b"%d" % amount, b""),
                self._put(mark, b""),
                counters,
            ],
            "failure": [{"request_range": {"key": encode(mark)}}],
        }
        answer = self._transact(request)
        if answer.get("succeeded"):
            return count_in(_read_value(name, answer["responses"][2]))
        put_at = answer["responses"][0]["response_range"]["kvs"][0]["mod_revision"]
        then = {"request_range": {**_range_below(name), "revision": put_at}}
        return count_in(_read_value(name, self._transact({"success": [then]})["responses"][0]))

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        name = self._name_of(key)
        request = {
            "compare": [_has_value(name, instead_of) if instead_of else _is_absent(name)],
            "success": [self._put(name, value)],
            "failure": [{"request_range": {"key": encode(name)}}],
        }
        answer = self._transact(request)
        if answer.get("succeeded"):
            return value
        return decode(answer["responses"][0]["response_range"]["kvs"][0]["value"])

    def _write(self, values: Mapping[str, bytes]) -> None:
        for part in _parts(values):
            self._transact({"success": [self._put(self._name_of(key), part[key]) for key in part]})

    def _read(self, keys: Sequence[str]) -> Snapshot:
        values: dict[str, bytes] = {}
        revision = ""
        for start in range(0, len(keys), _MAX_OPERATIONS):
            names = {key: self._name_of(key) for key in keys[start : start + _MAX_OPERATIONS]}
            # All parts show one revision: that of the first.
            past = {"revision": revision} if revision else {}
            ranges = [{"request_range": {**_range_below(name), **past}} for name in names.values()]
            answer = self._transact({"success": ranges})
            revision = revision or answer["header"]["revision"]
            for (key, name), response in zip(names.items(), answer["responses"], strict=True):
                value = _read_value(name, response)
                if value is not None:
                    values[key] = value
        return values, int(revision)

    def _open_watch(
        self, client: Gateway, keys: Sequence[str], values: Mapping[str, bytes], revision: int
    ) -> StreamWatch:
        return StreamWatch(client, values, keys, self._prefix, revision + 1).start()

    def _bind(self, client: Gateway) -> None:
        try:
            client.post("lease/grant", {"TTL": str(self._lease_s), "ID": self._lease})
        except Refused as refused:
            # Not refreshed here: one who comes after the run's end must not prolong it.
            if "lease already exists" not in str(refused):
                raise

    def _refresh(self, client: Gateway) -> None:
        told = client.post("lease/keepalive", {"ID": self._lease})
        if int(told.get("result", {}).get("TTL", 0)) <= 0:
            raise Refused(f"{self._name} has forgotten this run, as nobody refreshed its lease")

    def _release(self) -> None:
        for gateway in self._gateways:
            gateway.close()

    def _transact(self, request: Mapping[str, Any]) -> Any:
        return self._servers.call(lambda gateway: gateway.post("kv/txn", request))

    def _name_of(self, key: str) -> bytes:
        return self._prefix + key.encode(errors="surrogateescape")

    def _put(self, name: bytes, value: bytes) -> dict[str, Any]:
        put = {"key": encode(name), "value": encode(value), "lease": self._lease}
        return {"request_put": put}


def _is_absent(name: bytes) -> dict[str, Any]:
    return {"key": encode(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def _has_value(name: bytes, value: bytes) -> dict[str, Any]:
    return {"key": encode(name), "target": "VALUE", "result": "EQUAL", "value": encode(value)}


def _range_below(name: bytes) -> dict[str, Any]:
    """Ask for a key, and for the amounts that it counts if it is a counter."""
    return {"key": encode(name), "range_end": encode(name + AFTER_COUNTERS)}


def _read_value(name: bytes, response: Mapping[str, Any]) -> bytes | None:
    """Return a value, or a counter's as digits; None if the key isn't there."""
    found = response["response_range"].get("kvs", ())
    counted = {decode(each["key"]): each for each in found}
    plain = counted.pop(name, None)
    if not counted:
        return None if plain is None else decode(plain.get("value", ""))
    start = count_in(None if plain is None else decode(plain.get("value", "")))
    amounts = (
        count_in(key.removeprefix(name + COUNTED)) * int(each["version"])
        for key, each in counted.items()
    )
    return b"%d" % (start + sum(amounts))


def _parts(values: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Divide values so that each part fits into a transaction."""
    part: dict[str, bytes] = {}
    size = 0
    for key, value in values.items():
        if part and (len(part) == _MAX_OPERATIONS or size + len(value) > _MAX_BYTES):
            yield part
            part, size = {}, 0
        part[key] = value
        size += len(key) + len(value)
    yield part
