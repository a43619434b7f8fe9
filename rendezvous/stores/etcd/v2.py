"""The store over etcd's v2 API, for those who have no other.

*Counters.* v2 has no transactions. So to add an amount is to create an entry with a random name in
the counter's folder, and to list the folder: the value is the sum of the amounts of all entries
that were created up to this one. No two nodes get in each other's way, but each reads what the
earlier ones wrote: v3 is better with hundreds of nodes.

*Once, even if the reply is lost.* An entry that is there already is not created again.

*The lease.* v2 has none, and no etcd of today prolongs a folder's time to live. So a run has a mark
with a time to live, which its nodes prolong, and which names the folder where its keys lie. Once
it has expired, the next run of this name gets another folder; and whoever begins a run removes all
folders that no mark names any more.

*Waiting.* A wait reads the keys and, if one is missing, asks for the next event from there on, as
often as it takes. What v2 has forgotten meanwhile is read anew.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ...logs import Log
from ...protocol.counters import count_in
from ...protocol.timing import STORE_PATIENCE_S
from ...threads import start_thread
from .etcd_store import (
    LEASE_S,
    PREFIX,
    PULSE_S,
    EtcdStore,
    Snapshot,
    Watch,
)
from .failover import Refused, Unreachable
from .v2_client import Member, path_of

log = Log(__name__)

_LIST_FROM = 8
"""So many keys in one folder are read by listing it."""

_POLL_S = 10.0
_MARKS = "marks"

_T = TypeVar("_T")


class EtcdV2Store(EtcdStore[Member]):
    """A ``Store`` over the members of an etcd; ``open`` comes first.

    Args:
        name: What to call them in a sentence.
        members: The members.
        run: Name of what shares a mark.
        patience_s: For how long a call is tried.
        lease_s: How long keys are found after the last refreshment.
        pulse_s: Seconds between two refreshments of the mark.
        prefix: What all keys begin with.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        run: str,
        patience_s: float = STORE_PATIENCE_S,
        lease_s: int = LEASE_S,
        pulse_s: float = PULSE_S,
        prefix: str = PREFIX,
    ) -> None:
        super().__init__(name, members, patience_s, pulse_s)
        self._members = members
        self._root = prefix
        self._mark = path_of(f"{prefix}{_MARKS}/", run)
        self._folder = os.urandom(12).hex()
        self._lease_s = lease_s

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``. An amount of 0 reads only."""
        if amount == 0:
            return count_in(self._read([key])[0].get(key))
        path = self._path_of(key)
        entry = f"{path}/{os.urandom(12).hex()}"
        created_at = self._call(lambda client: _count(client, path, entry, amount)).createdIndex
        listing = self._call(lambda client: client.read(path, recursive=True, quorum=True))
        return sum(
            count_in(each.value.encode())
            for each in listing.leaves
            if each.createdIndex <= created_at and each.value is not None
        )

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        path, text = self._path_of(key), _encode(value)
        if instead_of:
            old = _encode(instead_of)
            return _decode(self._call(lambda client: _replace(client, path, text, old)).value)
        return _decode(self._call(lambda client: _create(client, path, text)).value)

    def _write(self, values: Mapping[str, bytes]) -> None:
        for key, value in values.items():
            self._write_one(self._path_of(key), _encode(value))

    def _write_one(self, path: str, text: str) -> None:
        self._call(lambda client: client.write(path, text))

    def _read(self, keys: Sequence[str]) -> Snapshot:
        paths = {self._path_of(key): key for key in keys}
        folders: dict[str, list[str]] = {}
        for path in paths:
            folders.setdefault(path.rpartition("/")[0], []).append(path)
        values: dict[str, bytes] = {}
        revisions = []
        for folder, wanted in folders.items():
            for place in [folder] if len(wanted) >= _LIST_FROM else wanted:
                leaves, index = self._list(place)
                revisions.append(index)
                for path, text in leaves.items():
                    _take(values, paths, path, text)
        return values, min(revisions)

    def _list(self, path: str) -> tuple[dict[str, str], int]:
        """Return the values at and below a path, and etcd's index; nothing if it isn't there."""
        import etcd  # noqa: PLC0415  etcd's users only

        try:
            found = self._call(lambda client: client.read(path, recursive=True, quorum=True))
        except etcd.EtcdKeyNotFound as error:
            return {}, int(error.payload["index"])
        return {leaf.key: leaf.value for leaf in found.leaves if not leaf.dir}, found.etcd_index

    def _open_watch(
        self, client: Member, keys: Sequence[str], values: Mapping[str, bytes], revision: int
    ) -> Watch:
        wanted = {self._path_of(key): key for key in keys}
        watch = _Polling(client, values, wanted, revision + 1)
        start_thread(threading.Thread(target=watch.run, name="elrun-etcd-watch", daemon=True))
        return watch

    def _bind(self, client: Member) -> None:
        mine = self._folder
        standing = client.ask(lambda it: _create(it, self._mark, mine, self._lease_s)).value
        # Not refreshed here if it stood: one who comes after the run's end must not prolong it.
        self._folder = str(standing)
        if standing == mine:
            client.ask(self._sweep)

    def _sweep(self, client: Any) -> None:
        """Remove what no mark names: folders first, as a run has its mark before its folder."""
        folders = [leaf.key for leaf in client.read(self._root).children if leaf.dir]
        marks = client.read(self._root + _MARKS, recursive=True, quorum=True).leaves
        known = {_MARKS, *(leaf.value for leaf in marks)}
        for folder in folders:
            if folder.rpartition("/")[2] not in known:
                _delete(client, folder)

    def _refresh(self, client: Member) -> None:
        import etcd  # noqa: PLC0415  etcd's users only

        try:
            client.ask(lambda it: it.refresh(self._mark, self._lease_s))
        except etcd.EtcdKeyNotFound as error:
            raise Refused(
                f"{self._name} has forgotten this run, as nobody refreshed its mark"
            ) from error

    def _path_of(self, key: str) -> str:
        return path_of(f"{self._root}{self._folder}/", key)

    def _release(self) -> None:
        for member in self._members:
            member.close()

    def _call(self, function: Callable[[Any], _T]) -> _T:
        return self._servers.call(lambda member: member.ask(function))


class _Polling(Watch):
    """A look-out for values; ``run`` goes on in a thread until it is over."""

    def __init__(
        self, member: Member, values: Mapping[str, bytes], paths: Mapping[str, str], index: int
    ) -> None:
        super().__init__(values, list(paths.values()))
        self._member = member
        self._paths = paths
        self._index = index
        missing = [path for path, key in paths.items() if key not in values]
        self._path = os.path.commonpath(missing)

    @property
    def found(self) -> Mapping[str, bytes] | None:
        """Nothing: only what is missing is watched, so those who wait read all of it anew."""
        return None

    def run(self) -> None:
        """Ask for events until all is there, or nobody wants to know, or etcd can't tell."""
        import etcd  # noqa: PLC0415  etcd's users only

        try:
            while not self.is_over.is_set() and not self.has_found:
                event = self._member.ask(self._next_event)
                if event is not None and self._is_over_after(event):
                    break
        except (Unreachable, Refused, etcd.EtcdKeyError):
            pass  # those who wait read anew, and find out whether that matters
        finally:
            self.is_over.set()

    def _next_event(self, client: Any) -> Any:
        import etcd  # noqa: PLC0415  etcd's users only

        try:
            return client.read(
                self._path, wait=True, recursive=True, waitIndex=self._index, timeout=_POLL_S
            )
        except etcd.EtcdWatchTimedOut:
            return None

    def _is_over_after(self, event: Any) -> bool:
        self._index = event.modifiedIndex + 1
        if event.value is None or event.action in ("delete", "expire"):
            return event.action in ("delete", "expire")
        key = self._paths.get(event.key)
        if key is None:  # a counter's entry?
            return event.key.rpartition("/")[0] in self._paths
        self.see(key, _decode(event.value))
        return False


def _create(client: Any, path: str, text: str, ttl_s: int | None = None) -> Any:
    """Return the node that stands at a path, having written it if none did."""
    import etcd  # noqa: PLC0415  etcd's users only

    try:
        return client.write(path, text, ttl=ttl_s, prevExist=False)
    except etcd.EtcdAlreadyExist:
        return client.read(path, quorum=True)


def _count(client: Any, folder: str, entry: str, amount: int) -> Any:
    """Create an entry in a counter's folder, also where somebody has written a value instead."""
    import etcd  # noqa: PLC0415  etcd's users only

    with suppress(etcd.EtcdNotDir):
        return _create(client, entry, str(amount))
    with suppress(etcd.EtcdKeyError):  # another one was faster
        client.delete(folder)
    return _create(client, entry, str(amount))


def _replace(client: Any, path: str, text: str, old: str) -> Any:
    """Return the node that stands at a path, having written it if the old one did."""
    import etcd  # noqa: PLC0415  etcd's users only

    try:
        return client.write(path, text, prevValue=old)
    except etcd.EtcdCompareFailed:
        return client.read(path, quorum=True)


def _delete(client: Any, folder: str) -> None:
    import etcd  # noqa: PLC0415  etcd's users only

    with suppress(etcd.EtcdKeyNotFound):  # another one was faster
        client.delete(folder, recursive=True)


def _take(values: dict[str, bytes], wanted: Mapping[str, str], path: str, text: str) -> None:
    """Add what a leaf says to the values: a value, or an entry of a counter."""
    key = wanted.get(path)
    if key is not None:
        values[key] = _decode(text)
        return
    counter = wanted.get(path.rpartition("/")[0])
    if counter is not None:
        values[counter] = b"%d" % (count_in(values.get(counter)) + count_in(text.encode()))


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text)
    except ValueError:  # somebody else wrote it: to be refused where it is read
        return text.encode(errors="surrogateescape")
