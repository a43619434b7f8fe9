"""The store over etcd's v3 API.

*Counters.* etcd has none, and if many nodes swap one value at once, each needs as many attempts as
there are nodes. But etcd counts how often a key was put: the key's version. So to add an amount,
the store puts the key that bears this amount, below the counter's name, and reads, in the same
transaction, all keys below that name; the counter's value is the sum of amount times version. That
is one request, which never conflicts with another. There are few amounts, so the read is short.

*Once, even if the answer is lost.* The transaction also puts a mark of this store's, whose version
the store knows. If the version is one higher than the store knows, the transaction was done before:
then the counter is read as of the revision of the mark. (``create`` needs no mark: repeated, it
finds the value that it has written itself.)

*Rounds that are over.* (``protocol/freeing.py``) The transaction that creates a roster also deletes
the keys of the round that nobody needs any more, and puts the run's ``freed`` key: the version of
that is the number of the first round that is kept. A round is freed only if that number is its own,
and each write to a round is compared with it: so there is no moment for a late node in between.

*Few and large requests.* Many keys of one folder are read as a range, and a heartbeat writes and
reads in one transaction. The transaction that writes a node's record reads what the node waits for
next; any other wait that has to wait costs one read; ``v3_watch.py`` says the rest.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ...errors import RendezvousRoundOverError
from ...named_tuple import NamedTuple
from ...protocol.freeing import RoundOf, freed_with, round_of
from ...protocol.keys import count_in
from .etcd_store import EtcdStore, Snapshot
from .failover import Refused
from .v3_awaited import AFTER_COUNTERS, COUNTED, Hear, awaited_after
from .v3_client import Gateway, decode, encode
from .v3_watch import Watcher

# etcd takes 128 operations and 1.5 MiB in a transaction, unless it is configured otherwise.
_MAX_OPERATIONS = 120
_MAX_BYTES = 1 << 20
_PAGE = 500
"""More keys of one folder than a transaction takes are read as ranges of this size."""

# Of gRPC: etcd's lease exists already, or does not exist any more.
_FAILED_PRECONDITION, _NOT_FOUND = 9, 5


class _Mark(NamedTuple):
    """A key that is put with each of some additions, of which one at a time is under way.

    Args:
        version: How often it was put.
    """

    name: bytes
    version: int


class EtcdV3Store(EtcdStore[Gateway]):
    """A ``Store`` over etcd's v3 API."""

    def _set_up(self, run: str) -> None:
        self._prefix = self._root.encode()
        digest = sha256(self._name_of(run)).digest()
        self._lease = str(int.from_bytes(digest[:8], "big") >> 1 or 1)
        self._sender = os.urandom(12).hex()
        # Each addition that is under way has a mark of its own.
        self._marks_made = itertools.count()
        self._free_marks: dict[RoundOf | None, list[_Mark]] = {}
        self._watcher = Watcher(self._servers, self._read_awaited, self._prefix)

    def add(self, key: str, amount: int) -> int:
        if amount == 0:
            return count_in(self._read([key])[0].get(key))
        place = round_of(key)
        mark = self._take_mark(place)
        value = self._add(key, amount, mark, place)
        self._give_back(place, mark._replace(version=mark.version + 1))
        return value  # not after an error: is the mark there by then?

    def _take_mark(self, place: RoundOf | None) -> _Mark:
        """Return a mark that no addition uses; that of a round is freed with the round."""
        with self._lock:
            if place not in self._free_marks and place is not None:
                for other in [each for each in self._free_marks if each is not None]:
                    del self._free_marks[other]
            free = self._free_marks.setdefault(place, [])
            if free:
                return free.pop()
            folder = "" if place is None else place.prefix
            name = f"{folder}asked/{self._sender}/{next(self._marks_made)}"
            return _Mark(self._name_of(name), 0)

    def _give_back(self, place: RoundOf | None, mark: _Mark) -> None:
        with self._lock:
            if place in self._free_marks:
                self._free_marks[place].append(mark)

    def _add(self, key: str, amount: int, mark: _Mark, place: RoundOf | None) -> int:
        name = self._name_of(key)
        request = {
            "compare": [_has_version(mark.name, mark.version), *self._guard(place)],
            "success": [
                self._put(name + COUNTED + b"%d" % amount, b""),
                self._put(mark.name, b""),
                {"request_range": _range_below(name)},
            ],
            "failure": [{"request_range": {"key": encode(mark.name)}}],
        }
        answer = self._transact(request)
        if answer.get("succeeded"):
            return count_in(_read_value(name, answer["responses"][2]["response_range"]["kvs"]))
        (marked,) = answer["responses"][0]["response_range"].get("kvs") or [{}]
        if place is not None and int(marked.get("version", 0)) in (0, mark.version):
            self._give_back(place, mark)
            raise RendezvousRoundOverError(place.over_reason)
        put_at = marked["mod_revision"]
        then = {"request_range": {**_range_below(name), "revision": put_at}}
        response = self._transact({"success": [then]})["responses"][0]["response_range"]
        return count_in(_read_value(name, response["kvs"]))

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        name, place = self._name_of(key), round_of(key)
        stands = _has_value(name, instead_of) if instead_of else _is_absent(name)
        expected = awaited_after(key)
        request = {
            "compare": [stands, *self._guard(place)],
            "success": [
                self._put(name, value),
                *self._free(freed_with(key)),
                *({"request_range": {"key": encode(self._name_of(each))}} for each in expected),
            ],
            "failure": [{"request_range": {"key": encode(name)}}],
        }
        answer = self._transact(request)
        if answer.get("succeeded"):
            reads = answer["responses"][-len(expected) :] if expected else ()
            if expected and not any(each["response_range"].get("kvs") for each in reads):
                self._watcher.expect(expected, int(answer["header"]["revision"]))
            return value
        found = answer["responses"][0]["response_range"].get("kvs")
        if found:
            return decode(found[0].get("value", ""))
        if place is not None and self._is_freed(place):
            raise RendezvousRoundOverError(place.over_reason)
        return self.create(key, value)  # a foreign process has deleted what was to be replaced

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        return self._watcher.wait(keys, timeout_s)

    def watch(self, keys: Sequence[str], hear: Hear) -> Callable[[], bool]:
        return self._watcher.watch(keys, hear)

    def exchange(self, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
        if len(values) + len(keys) > _MAX_OPERATIONS:
            self.set(values)
            return self.get(keys)
        self._servers.check()
        found, _ = self._read_some(keys, 0, values)
        return [found.get(key) for key in keys]

    def _write(self, values: Mapping[str, bytes]) -> None:
        for part in _parts(values):
            self._transact(self._request(part, ()))

    def _request(
        self, values: Mapping[str, bytes], ranges: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return what writes values, without those of rounds that are over, and then reads ranges.

        Values of one round need no nested transaction, whose writes etcd would take although its
        quota is used up.
        """
        puts: dict[RoundOf | None, list[dict[str, Any]]] = {}
        for key, value in values.items():
            puts.setdefault(round_of(key), []).append(self._put(self._name_of(key), value))
        if len(puts) == 1:
            [(place, part)] = puts.items()
            return {
                "compare": self._guard(place),
                "success": [*part, *ranges],
                "failure": [*ranges],
            }
        plain = puts.pop(None, [])
        guarded = [
            {"request_txn": {"compare": self._guard(place), "success": part}}
            for place, part in puts.items()
        ]
        return {"success": [*plain, *guarded, *ranges]}

    def _guard(self, place: RoundOf | None) -> list[dict[str, Any]]:
        """Return the comparison that holds unless a round was freed."""
        if place is None:
            return []
        freed = self._name_of(place.freed)
        return [{**_has_version(freed, place.number + 1), "result": "LESS"}]

    def _free(self, place: RoundOf | None) -> list[dict[str, Any]]:
        """Return the operation that frees a round, if the rounds before it were freed."""
        if place is None:
            return []
        freed, first = self._name_of(place.freed), self._name_of(place.prefix)
        end = first[:-1] + bytes([first[-1] + 1])
        count = self._put(freed, b"%d" % (place.number + 1))
        keys = {"request_delete_range": {"key": encode(first), "range_end": encode(end)}}
        return [
            {
                "request_txn": {
                    "compare": [_has_version(freed, place.number)],
                    "success": [count, keys],
                }
            }
        ]

    def _is_freed(self, place: RoundOf) -> bool:
        return place.number < count_in(self._read([place.freed])[0].get(place.freed))

    def _read_awaited(self, keys: Sequence[str]) -> Snapshot:
        """Read keys for a wait.

        Raises:
            RendezvousRoundOverError: One is missing, and will be for ever: its round was freed.
        """
        places = {key: place for key in keys if (place := round_of(key)) is not None}
        counts = dict.fromkeys(place.freed for place in places.values())
        values, revision = self._read([*keys, *counts])
        freed = {key: count_in(values.pop(key, None)) for key in counts}
        for key, place in places.items():
            if key not in values and place.number < freed[place.freed]:
                raise RendezvousRoundOverError(place.over_reason)
        return values, revision

    def _read(self, keys: Sequence[str]) -> Snapshot:
        values: dict[str, bytes] = {}
        revision = 0  # of the first answer: all others show the same
        for part in _parts_to_read(keys):
            read = self._read_folder if len(part) > _MAX_OPERATIONS else self._read_some
            found, revision = read(part, revision)
            values |= found
        return values, revision

    def _read_some(
        self, keys: Sequence[str], revision: int = 0, values: Mapping[str, bytes] | None = None
    ) -> Snapshot:
        """Return the values of as many keys as one transaction reads; it may write before that."""
        past = {"revision": str(revision)} if revision else {}
        ranges = [{"request_range": {**_range_below(self._name_of(key)), **past}} for key in keys]
        answer = self._transact(self._request(values or {}, ranges))
        responses = answer.get("responses", ())
        found = {}
        for key, response in zip(keys, responses[len(responses) - len(keys) :], strict=True):
            value = _read_value(self._name_of(key), response["response_range"].get("kvs", ()))
            if value is not None:
                found[key] = value
        return found, revision or int(answer["header"]["revision"])

    def _read_folder(self, keys: Sequence[str], revision: int) -> Snapshot:
        """Return the values of keys that lie so close together that a range has few others."""
        wanted = {self._name_of(key): key for key in keys}
        first, end = min(wanted), max(wanted) + AFTER_COUNTERS
        found: dict[bytes, list[Any]] = {}
        has_more = True
        while has_more:
            page = {"key": encode(first), "range_end": encode(end), "limit": str(_PAGE)}
            answer = self._ask("kv/range", {**page, "revision": str(revision)})
            revision = revision or int(answer["header"]["revision"])
            for kv in answer.get("kvs", ()):
                name = decode(kv["key"])
                found.setdefault(name.partition(COUNTED)[0], []).append(kv)
                first = name + b"\0"
            has_more = bool(answer.get("more"))
        values = ((key, _read_value(name, found.get(name, ()))) for name, key in wanted.items())
        return {key: value for key, value in values if value is not None}, revision

    def _bind(self, client: Gateway) -> None:
        try:
            client.post("lease/grant", {"TTL": str(self._lease_s), "ID": self._lease})
        except Refused as refused:
            # If the lease exists, it is not refreshed here: see ``EtcdStore``.
            if refused.code != _FAILED_PRECONDITION:
                raise

    def _refresh(self, client: Gateway) -> None:
        answer = client.post("lease/keepalive", {"ID": self._lease})
        if int(answer.get("result", {}).get("TTL", 0)) <= 0:
            raise self._forgotten()

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self._watcher.close()

    def _attend(self, seconds: float) -> None:
        self._watcher.attend(seconds)

    def _look_again(self) -> None:
        self._watcher.read_anew()

    def _break_off(self) -> None:
        self._watcher.interrupt()

    def _transact(self, request: Mapping[str, Any]) -> Any:
        return self._ask("kv/txn", request)

    def _ask(self, path: str, request: Mapping[str, Any]) -> Any:
        try:
            return self._servers.call(lambda gateway: gateway.post(path, request))
        except Refused as refused:
            if refused.code == _NOT_FOUND:
                raise self._forgotten() from refused
            raise

    def _forgotten(self) -> Refused:
        return Refused(
            f"{self._name} has forgotten this run: it has lost its data, or nobody refreshed "
            "the run's lease"
        )

    def _name_of(self, key: str) -> bytes:
        return self._prefix + key.encode(errors="surrogateescape")

    def _put(self, name: bytes, value: bytes) -> dict[str, Any]:
        put = {"key": encode(name), "value": encode(value), "lease": self._lease}
        return {"request_put": put}


def _is_absent(name: bytes) -> dict[str, Any]:
    return {"key": encode(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def _has_value(name: bytes, value: bytes) -> dict[str, Any]:
    return {"key": encode(name), "target": "VALUE", "result": "EQUAL", "value": encode(value)}


def _has_version(name: bytes, version: int) -> dict[str, Any]:
    return {"key": encode(name), "target": "VERSION", "result": "EQUAL", "version": str(version)}


def _range_below(name: bytes) -> dict[str, Any]:
    """Ask for a key, and for the amounts that it counts if it is a counter."""
    return {"key": encode(name), "range_end": encode(name + AFTER_COUNTERS)}


def _read_value(name: bytes, found: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Return a value, or a counter's as digits; None if the key isn't there."""
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


def _parts_to_read(keys: Sequence[str]) -> list[Sequence[str]]:
    """Divide keys so that each part is one transaction, or all that are wanted of a folder."""
    if len(keys) <= _MAX_OPERATIONS:
        return [keys]
    folders: dict[str, list[str]] = {}
    for key in keys:
        folders.setdefault(key.rpartition("/")[0], []).append(key)
    large = [part for part in folders.values() if len(part) > _MAX_OPERATIONS]
    others = [key for part in folders.values() if part not in large for key in part]
    small = [others[at : at + _MAX_OPERATIONS] for at in range(0, len(others), _MAX_OPERATIONS)]
    return [*small, *large]


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
