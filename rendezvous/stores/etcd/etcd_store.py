"""What the stores over etcd's two APIs share: the members, and the life of the run's keys.

*The lease.* All keys of a run are bound to one lease, which all its nodes refresh. So they stay as
long as one node lives, whichever node wrote them, and vanish at once, ``lease_s`` after the last
node has gone: until then, a node that comes too late learns that the run has ended. One lease for a
node would not do: the records of a lost node are part of the round that its survivors end.

The lease outlasts the patience, as nodes that are all cut off from etcd find their keys again if
they come back in time. So it is refreshed every ``REFRESH_S``, which leaves a part of the seconds
by which it is longer than the patience. A lost node is found by its heartbeat, not by a lease.

*Trouble.* Each call is tried for a minute (``--rdzv-conf store_patience``), on every member in
turn, which has a second for its answer: a restart of etcd, an election or a cut cable ends no job.
Whichever call finds a member in trouble breaks off all that waits for this member, to go on at
another. A wait by itself has no answer to miss: if no request has been answered for ``PROBE_S``,
the lease is refreshed before its time, to see whether the member still answers.
"""

from __future__ import annotations

import math
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from ...errors import RendezvousConnectionError
from ...logs import Log
from ...network.addresses import Endpoint
from ...protocol.timing import STORE_PATIENCE_S
from ...threads import start_thread
from ..store import Store, limit_of
from .failover import Failover
from .http_connection import Place

log = Log(__name__)

PREFIX = "/elrun/"
REFRESH_S = 10.0
PROBE_S = 2.0
REQUEST_S = 1.0
_BEYOND_PATIENCE_S = 15
_LONGEST_LEASE_S = 24 * 3600


class Client(Protocol):
    """What speaks to one member."""

    place: Place
    """Where the member is."""

    def close(self) -> None:
        """Let go of the connections that are idle."""


_C = TypeVar("_C", bound=Client)


def lease_for(patience_s: float) -> int:
    """Return how long a run's keys outlast its nodes, whose calls are tried for so many seconds."""
    return min(_LONGEST_LEASE_S, math.ceil(patience_s) + _BEYOND_PATIENCE_S)


LEASE_S = lease_for(STORE_PATIENCE_S)

Snapshot = tuple[dict[str, bytes], int]
"""The values that are there, by key, and the revision of etcd at which they were read."""


class EtcdStore(Store, Generic[_C]):
    """A ``Store`` over the members of an etcd; ``open`` comes first.

    Args:
        name: Name of all the members, for people.
        clients: One for each member.
        run: Name of the run, whose nodes share a lease.
        patience_s: For how long a call is tried.
        lease_s: How long keys are found after the last refreshment of the lease.
        pulse_s: Seconds between two refreshments.
        prefix: What all keys begin with.
    """

    def __init__(
        self,
        name: str,
        clients: Sequence[_C],
        run: str,
        patience_s: float = STORE_PATIENCE_S,
        lease_s: int = LEASE_S,
        pulse_s: float = REFRESH_S,
        prefix: str = PREFIX,
    ) -> None:
        self._name = name
        self._clients = clients
        self._servers = Failover(name, clients, patience_s, self._break_off)
        self._lease_s = lease_s
        self._pulse_s = pulse_s
        self._probe_s = min(PROBE_S, pulse_s)
        self._root = prefix
        self._lock = threading.Lock()
        self._set_up(run)

    def open(
        self, stop: threading.Event | None = None, join_timeout_s: float = STORE_PATIENCE_S
    ) -> None:
        """Reach etcd.

        Raises:
            RendezvousConnectionError: It can't be reached.
        """
        limit = limit_of(stop, join_timeout_s)
        self._servers.call(self._bind, limit.seconds, stop, setting=limit.setting)
        start_thread(threading.Thread(target=self._run, name="elrun-etcd", daemon=True))

    @property
    def member(self) -> int:
        """Index of the member that is asked at present."""
        return self._servers.index

    @property
    def member_address(self) -> Endpoint:
        """Where that member was reached last; its name, if it was not yet."""
        return self._clients[self._servers.index].place.known

    def set(self, values: Mapping[str, bytes]) -> None:
        if values:
            self._write(values)
        else:
            self._servers.check()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        self._servers.check()
        values = self._read(keys)[0] if keys else {}
        return [values.get(key) for key in keys]

    def close(self) -> None:
        self._servers.end(f"the connection to {self._name} was closed")
        self._break_off()
        for client in self._clients:
            client.close()

    def _run(self) -> None:
        """Refresh the lease until the store is closed; this has a thread of its own.

        The lease may be about to end when the store is opened. A node that comes after the end of
        the run must not prolong it, and such a node has left before the first refreshment.
        """
        due_at = time.monotonic() + self._probe_s
        reason = "a fault in elrun's thread for etcd"
        try:
            while not self._servers.has_ended.is_set():
                while (left_s := self._until_refresh_s(due_at)) > 0:
                    self._attend(left_s)
                self._servers.call(self._refresh)
                self._look_again()
                due_at = time.monotonic() + self._pulse_s
        except RendezvousConnectionError as error:
            if not self._servers.has_ended.is_set():
                log.info("%s was lost: %s", self._name, error)
            reason = str(error)
        finally:  # whatever ended this thread, no wait outlives it
            self._servers.end(reason)
            self._break_off()

    def _until_refresh_s(self, due_at: float) -> float:
        if self._servers.has_ended.is_set():
            return 0.0
        probe_at = self._servers.answered_at + self._probe_s
        return min(due_at, probe_at) - time.monotonic()

    @abstractmethod
    def _set_up(self, run: str) -> None:
        """Make what this API needs for a run; nothing is connected yet."""

    @abstractmethod
    def _write(self, values: Mapping[str, bytes]) -> None:
        """Write at least one value."""

    @abstractmethod
    def _read(self, keys: Sequence[str]) -> Snapshot:
        """Read at least one key."""

    @abstractmethod
    def _bind(self, client: _C) -> None:
        """Give the run its lease, if it has none."""

    @abstractmethod
    def _refresh(self, client: _C) -> None:
        """Let the lease begin anew."""

    def _attend(self, seconds: float) -> None:
        """Let time pass in the store's thread, or do what else is to be done there."""
        self._servers.has_ended.wait(seconds)

    def _look_again(self) -> None:
        """Do in the store's thread what is due whenever the lease has been refreshed."""

    @abstractmethod
    def _break_off(self) -> None:
        """Interrupt what waits for an event from a member; from any thread."""
