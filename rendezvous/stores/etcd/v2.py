"""The store over etcd's v2 API, for an etcd that has no other.

*Counters.* v2 has no transactions. So to add an amount, the store creates an entry with a random
name in the counter's folder, and lists the folder: the value is the sum of the amounts of all
entries that were created up to this one. No two nodes hinder each other, but each reads what the
earlier ones wrote: v3 is better with hundreds of nodes.

*Once, even if the answer is lost.* An entry that exists already is not created again.

*The lease.* v2 has none, and no etcd of today prolongs a folder's time to live. So a run has a mark
with a time to live, which its nodes prolong, and which names the folder of its keys. Once the mark
has expired, the next run of this name gets another folder; and a node that begins a run removes all
folders that no mark names any more.

*Rounds that are over.* (``protocol/freeing.py``) The node that has created a roster counts, at the
run's ``freed`` key, the round that nobody needs any more, and then deletes its folder. A node that
has begun a counter or created a key looks at that number afterwards, and so does a wait: nothing
that a late node has written then counts.

*Waiting.* A wait reads the keys and, if one is missing, asks for the next event after that, in the
thread that waits, until all keys are there. The connection on which it asks is its own: so the wait
ends on time, and another thread can break it off. What v2 has forgotten meanwhile is read anew. And
v2 reads folder by folder: so if a value is newer than the first of these reads, all are read again,
as one that was read earlier may have been replaced before it.
"""

from __future__ import annotations

import base64
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import etcd

from ...errors import RendezvousRoundOverError
from ...logs import Log
from ...protocol.freeing import RoundOf, freed_with, round_of
from ...protocol.keys import count_in
from .etcd_store import EtcdStore, Snapshot
from .failover import Refused, Unreachable
from .v2_client import Member, Poll, path_of

log = Log(__name__)

_LIST_FROM = 8
"""From this number on, keys in one folder are read by listing the folder."""

_READ_ANEW_S = 10.0
"""After this time without an event the keys are read: the connection may be dead."""

_PAUSE_S = 0.2
_MARKS = "marks"

_T = TypeVar("_T")


class EtcdV2Store(EtcdStore[Member]):
    """A ``Store`` over etcd's v2 API."""

    def _set_up(self, run: str) -> None:
        self._mark = path_of(f"{self._root}{_MARKS}/", run)
        self._folder = os.urandom(12).hex()
        self._polls: set[Poll] = set()

    def add(self, key: str, amount: int) -> int:
        if amount == 0:
            return count_in(self._read([key])[0].get(key))
        path = self._path_of(key)
        entry = f"{path}/{os.urandom(12).hex()}"
        created_at = self._call(lambda client: _count(client, path, entry, amount)).createdIndex
        listing = self._call(lambda client: client.read(path, recursive=True, quorum=True))
        count = sum(
            count_in(each.value.encode())
            for each in listing.leaves
            if each.createdIndex <= created_at and each.value is not None
        )
        if count == amount:
            self._require_rounds_of([key])
        return count

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        path, text, old = self._path_of(key), _encode(value), _encode(instead_of)
        standing = self._call(lambda client: _replace(client, path, text, old)).value
        if standing == text:
            self._require_rounds_of([key])
            self._free(freed_with(key))
        return _decode(standing)

    def _free(self, place: RoundOf | None) -> None:
        """Free a round, if the rounds before it were freed."""
        if place is None:
            return
        path, count = self._path_of(place.freed), _encode(b"%d" % (place.number + 1))
        before = _encode(b"%d" % place.number) if place.number else ""
        standing = self._call(lambda client: _replace(client, path, count, before)).value
        if standing == count:
            self._delete_round(place)

    def _delete_round(self, place: RoundOf) -> None:
        folder = self._path_of(place.prefix + "x").rpartition("/")[0]
        self._call(lambda client: _delete(client, folder))

    def _require_rounds_of(self, keys: Sequence[str]) -> None:
        """See that no key belongs to a round that was freed.

        Raises:
            RendezvousRoundOverError: One does.
        """
        places = {place for key in keys if (place := round_of(key)) is not None}
        counts = [place.freed for place in places]
        values = self._read(counts)[0] if counts else {}
        for place in places:
            if place.number < count_in(values.get(place.freed)):
                self._delete_round(place)  # what this node may have written there
                raise RendezvousRoundOverError(place.over_reason)

    def _write(self, values: Mapping[str, bytes]) -> None:
        for key, value in values.items():
            self._write_one(self._path_of(key), _encode(value))

    def _write_one(self, path: str, text: str) -> None:
        self._call(lambda client: client.write(path, text))

    def _read(self, keys: Sequence[str]) -> Snapshot:
        return self._read_apart(keys)[0]

    def _read_apart(self, keys: Sequence[str]) -> tuple[Snapshot, bool]:
        """Read values folder by folder; tell also whether they all stood there at one instant."""
        paths = {self._path_of(key): key for key in keys}
        folders: dict[str, list[str]] = {}
        for path in paths:
            folders.setdefault(path.rpartition("/")[0], []).append(path)
        values: dict[str, bytes] = {}
        read_at, newest = [], 0
        for folder, wanted in folders.items():
            for place in [folder] if len(wanted) >= _LIST_FROM else wanted:
                leaves, index = self._list(place)
                read_at.append(index)
                for leaf in leaves:
                    if _take(values, paths, leaf.key, leaf.value):
                        newest = max(newest, leaf.modifiedIndex)
        return (values, min(read_at)), newest <= min(read_at)

    def _list(self, path: str) -> tuple[list[Any], int]:
        """Return the leaves at and below a path, and etcd's index; none if it isn't there."""
        try:
            found = self._call(lambda client: client.read(path, recursive=True, quorum=True))
        except etcd.EtcdKeyNotFound as error:
            return [], int(error.payload["index"])
        return [leaf for leaf in found.leaves if not leaf.dir], found.etcd_index

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._servers.check()
            (values, index), is_of_one_instant = self._read_apart(keys)
            missing = {self._path_of(key) for key in keys if key not in values}
            is_late = deadline is not None and time.monotonic() >= deadline
            if not missing:
                if is_of_one_instant or is_late:
                    return [values[key] for key in keys]
                continue
            self._require_rounds_of([key for key in keys if key not in values])
            if is_late:
                return None
            self._await_events(missing, index + 1, deadline)

    def _await_events(self, missing: set[str], index: int, deadline: float | None) -> None:
        """Return once these paths may all hold a value, or when it is time to read them anew."""
        until = min(time.monotonic() + _READ_ANEW_S, math.inf if deadline is None else deadline)
        folder = os.path.commonpath(missing)
        poll = self._servers.call(lambda member: member.poll(folder))
        with self._lock:
            self._polls.add(poll)
        try:
            while missing and not self._servers.has_ended.is_set():
                event = poll.next_event(index, until)
                is_counted = event is not None and event.path.rpartition("/")[0] in missing
                if event is None or event.value is None or is_counted:
                    return
                missing.discard(event.path)
                index = event.number + 1
        except Unreachable as error:  # the next read finds out whether etcd can be reached
            log.info("a wait for etcd's events has ended: %s", error)
            self._servers.has_ended.wait(_PAUSE_S)
        finally:
            with self._lock:
                self._polls.discard(poll)
            poll.close()

    def _break_off(self) -> None:
        with self._lock:
            for poll in self._polls:
                poll.interrupt()

    def _bind(self, client: Member) -> None:
        mine = self._folder
        standing = client.ask(lambda it: _create(it, self._mark, mine, self._lease_s)).value
        # If the mark stood, it is not refreshed here: see ``EtcdStore``.
        self._folder = str(standing)
        if standing == mine:
            client.ask(self._sweep)

    def _sweep(self, client: Any) -> None:
        """Remove all folders that no mark names.

        The folders are listed first, since a run writes its mark before its folder.
        """
        folders = [leaf.key for leaf in client.read(self._root).children if leaf.dir]
        marks = client.read(self._root + _MARKS, recursive=True, quorum=True).leaves
        known = {_MARKS, *(leaf.value for leaf in marks)}
        for folder in folders:
            if folder.rpartition("/")[2] not in known:
                _delete(client, folder)

    def _refresh(self, client: Member) -> None:
        try:
            client.ask(lambda it: it.refresh(self._mark, self._lease_s))
        except etcd.EtcdKeyNotFound as error:
            raise Refused(
                f"{self._name} has forgotten this run: it has lost its data, or nobody refreshed "
                "the run's mark"
            ) from error

    def _path_of(self, key: str) -> str:
        return path_of(f"{self._root}{self._folder}/", key)

    def _call(self, function: Callable[[Any], _T]) -> _T:
        return self._servers.call(lambda member: member.ask(function))


def _create(client: Any, path: str, text: str, ttl_s: int | None = None) -> Any:
    """Return the node that stands at a path, having written it if none did."""
    while True:
        with suppress(etcd.EtcdAlreadyExist):
            return client.write(path, text, ttl=ttl_s, prevExist=False)
        with suppress(etcd.EtcdKeyNotFound):  # it has expired since
            return client.read(path, quorum=True)


def _count(client: Any, folder: str, entry: str, amount: int) -> Any:
    """Create an entry in a counter's folder, also where a value was written instead."""
    with suppress(etcd.EtcdNotDir):
        return _create(client, entry, str(amount))
    with suppress(etcd.EtcdKeyError):  # another node was faster
        client.delete(folder)
    return _create(client, entry, str(amount))


def _replace(client: Any, path: str, text: str, old: str) -> Any:
    """Return the node that stands at a path, having written it if the old one did.

    Args:
        old: Its value; empty: there was none.
    """
    if not old:
        return _create(client, path, text)
    try:
        return client.write(path, text, prevValue=old)
    except etcd.EtcdCompareFailed:
        return client.read(path, quorum=True)


def _delete(client: Any, folder: str) -> None:
    with suppress(etcd.EtcdKeyNotFound):  # another node was faster
        client.delete(folder, recursive=True)


def _take(values: dict[str, bytes], wanted: Mapping[str, str], path: str, text: str) -> bool:
    """Add a leaf that is a value, or an entry of a counter; return False if nobody wants it."""
    key = wanted.get(path)
    if key is not None:
        values[key] = _decode(text)
        return True
    counter = wanted.get(path.rpartition("/")[0])
    if counter is not None:
        values[counter] = b"%d" % (count_in(values.get(counter)) + count_in(text.encode()))
    return counter is not None


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text)
    except ValueError:  # no process of elrun's wrote it: the reader refuses it
        return text.encode(errors="surrogateescape")
