"""What the stores over etcd's two APIs have in common: failover, waiting, and the pulse.

*The lease.* All keys of a run are bound to one lease, which all its nodes refresh. So they stay for
as long as one node lives, whichever of them wrote them, and vanish at once, ``lease_s`` after the
last node has gone: until then, those who come too late learn that the run has ended. It outlasts
the patience: nodes that are all cut off from etcd, and wait for it, find their keys again.

*The pulse.* Every ``PULSE_S`` a thread refreshes the lease. A server that answers no more is
noticed by that at the latest, as a wait that blocks says nothing about it.

*Trouble.* Each call is tried for a minute (``--rdzv-conf store_patience``), on every server in
turn, which has a second for its answer: a restart of etcd, an election or a cut cable ends no job.
Whoever finds a server in trouble breaks all waits off; they read anew and go on, on whatever server
serves by then. Hence a wait never hangs on a connection that is dead.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from ...errors import RendezvousConnectionError
from ...logs import Log
from ...protocol.timing import STORE_PATIENCE_S
from ...threads import start_thread
from ..store import as_wait
from .failover import Failover

log = Log(__name__)

PREFIX = "/elrun/"
PULSE_S = 2.0
REQUEST_S = 1.0
_BEYOND_PATIENCE_S = 15
_LONGEST_LEASE_S = 24 * 3600

_C = TypeVar("_C")

Snapshot = tuple[dict[str, bytes], int]
"""Values by key, as far as they are there, and the revision of etcd at which they were read."""


class Watch:
    """A look-out for the keys that a snapshot lacks; a thread of its own fills it in."""

    def __init__(self, values: Mapping[str, bytes], keys: Sequence[str]) -> None:
        self.is_over = threading.Event()
        self._values = dict(values)
        self._missing = set(keys) - set(values)
        self._wanted = frozenset(keys)

    def wants(self, key: str) -> bool:
        """Return whether a key is one of those that are wanted."""
        return key in self._wanted

    def see(self, key: str, value: bytes) -> None:
        """Note that a key was written."""
        if key in self._wanted:
            self._values[key] = value
            self._missing.discard(key)

    @property
    def found(self) -> Mapping[str, bytes] | None:
        """All values, if all are there; to be asked once the watch is over."""
        return None if self._missing else self._values

    @property
    def has_found(self) -> bool:
        """Whether nothing is missing any more."""
        return not self._missing

    def stop(self) -> None:
        """End it, from any thread."""
        self.is_over.set()


class EtcdStore(ABC, Generic[_C]):
    """A ``Store`` over the members of an etcd.

    Args:
        name: What to call them in a sentence.
        clients: One for each member.
        patience_s: For how long a call is tried.
        pulse_s: Seconds between two refreshments of the lease.
    """

    def __init__(
        self,
        name: str,
        clients: Sequence[_C],
        patience_s: float = STORE_PATIENCE_S,
        pulse_s: float = PULSE_S,
    ) -> None:
        self._name = name
        self._servers = Failover(name, clients, patience_s, self._break_off)
        self._pulse_s = pulse_s
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()

    def open(
        self, stop: threading.Event | None = None, join_timeout_s: float = STORE_PATIENCE_S
    ) -> int:
        """Reach etcd; return the index of the member that serves.

        Args:
            stop: Ends the attempts.
            join_timeout_s: For how long it is tried.

        Raises:
            RendezvousConnectionError: It can't be reached.
            RendezvousClosedError: ``stop`` was set.
        """
        self._servers.call(self._bind, join_timeout_s, stop, setting="join_timeout")
        start_thread(threading.Thread(target=self._beat, name="elrun-etcd-pulse", daemon=True))
        return self._servers.index

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values; see ``Store.set``."""
        if values:
            self._write(values)
        else:
            self._servers.check()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, None for each that isn't there; see ``Store.get``."""
        self._servers.check()
        values = self._read(keys)[0] if keys else {}
        return [values.get(key) for key in keys]

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; see ``Store.wait``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._servers.check()
            values, revision = self._read(keys)
            left_s = None if deadline is None else deadline - time.monotonic()
            if all(key in values for key in keys):
                return [values[key] for key in keys]
            if left_s is not None and left_s <= 0:
                return None
            found = self._watch(keys, values, revision, left_s)
            if found is not None:
                return [found[key] for key in keys]

    def close(self) -> None:
        """Let go of the connections; see ``Store.close``."""
        self._servers.end(f"the connection to {self._name} was closed")
        self._break_off()
        self._release()

    def _watch(
        self,
        keys: Sequence[str],
        values: Mapping[str, bytes],
        revision: int,
        timeout_s: float | None,
    ) -> Mapping[str, bytes] | None:
        """Return all values, or None when the time is up or somebody broke the watch off."""
        watch = self._servers.call(lambda client: self._open_watch(client, keys, values, revision))
        with self._lock:
            self._watches.add(watch)
        try:
            if self._servers.has_ended.is_set():  # before this watch could be broken off
                return None
            watch.is_over.wait(as_wait(timeout_s))
        finally:
            watch.stop()
            with self._lock:
                self._watches.discard(watch)
        return watch.found

    def _break_off(self) -> None:
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.stop()

    def _beat(self) -> None:
        """Refresh the lease until the store is closed; a thread of its own does."""
        try:
            while not self._servers.has_ended.wait(self._pulse_s):
                self._servers.call(self._refresh)
        except RendezvousConnectionError as error:
            if not self._servers.has_ended.is_set():
                log.info("%s was lost: %s", self._name, error)
            self._servers.end(str(error))
            self._break_off()

    @abstractmethod
    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``."""

    @abstractmethod
    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""

    @abstractmethod
    def _write(self, values: Mapping[str, bytes]) -> None:
        """Write one value at least."""

    @abstractmethod
    def _read(self, keys: Sequence[str]) -> Snapshot:
        """Read one key at least."""

    @abstractmethod
    def _open_watch(
        self, client: _C, keys: Sequence[str], values: Mapping[str, bytes], revision: int
    ) -> Watch:
        """Return a running look-out for what was written after a snapshot of these values."""

    @abstractmethod
    def _bind(self, client: _C) -> None:
        """See to it that the run has its lease."""

    @abstractmethod
    def _refresh(self, client: _C) -> None:
        """Let the lease last as long as it does from now on."""

    def _release(self) -> None:
        """Let go of what the clients hold."""


def lease_for(patience_s: float) -> int:
    """Return how long a run's keys outlast its nodes, whose calls are tried for so many seconds."""
    return min(_LONGEST_LEASE_S, math.ceil(patience_s) + _BEYOND_PATIENCE_S)


LEASE_S = lease_for(STORE_PATIENCE_S)
