"""The seam between the round protocol and whatever holds its keys.

Six methods are all that a backend has to offer; ``memory.py`` is the fake; ``etcd/`` and
``server/`` are real. Several threads may call the methods at once. Every method may raise
``RendezvousConnectionError``, whose sentence names the endpoint. ``create`` of the signed view may
also raise ``RendezvousStateError``, where a process without the secret overwrites the key again and
again. ``ValueError`` means that the caller's value is larger than the store takes.

The functions ``exchange``, ``leave_will``, ``watch`` and ``read_by`` take any store. A store that
can do more has methods of these names: it writes and reads in one request, carries wills out, has
waits that need no thread (``WatchableStore``), or reads by its user's thread. The functions look
for the name, since ``isinstance`` of a protocol looks for 30 to 80 µs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..errors import RendezvousError
from ..light_typing import Protocol, cast
from ..named_tuple import NamedTuple
from ..threads import start_daemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Loop


def as_wait(timeout_s: float | None) -> float | None:
    """Return a time as ``threading`` takes it, which knows no more than three centuries.

    Args:
        timeout_s: Any number of seconds, ``inf`` too; None is for ever.
    """
    return None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX)


class Limit(NamedTuple):
    """For how long a store is tried to be reached.

    Args:
        setting: The setting of ``--rdzv-conf`` that says so, for people.
    """

    seconds: float
    setting: str


class Stop(threading.Event):
    """Ends the attempts to reach a store, once it is set."""

    limit: Limit | None = None
    """For how long they go on, where that is not ``join_timeout``."""


def limit_of(stop: threading.Event | None, join_timeout_s: float) -> Limit:
    """Return for how long attempts to reach a store go on that an event ends."""
    limit = stop.limit if isinstance(stop, Stop) else None
    return limit or Limit(join_timeout_s, "join_timeout")


class Store(Protocol):
    """A key-value store that the nodes of a job share."""

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, which starts at 0, in one atomic step; return its new value.

        ``get`` and ``wait`` show a counter as decimal digits. What stands there and is no number
        (``count_in`` of ``protocol/keys.py``) counts as 0. An amount of 0 reads only.
        """

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write several values, in no particular order, replacing what stood there."""

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values without blocking; None for each key that isn't there."""

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value unless one stands already; return the one that stands.

        Args:
            key: The key; of several nodes that create it, exactly one succeeds.
            value: Not empty.
            instead_of: A value that is there, to be replaced if it still is; empty: none is.
        """

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; return the values, or None when the time is up first.

        Args:
            keys: At least one.
            timeout_s: Seconds; None waits for as long as the store is there.
        """

    def close(self) -> None:
        """Release the connection; a ``wait`` that still blocks raises."""


def exchange(store: Store, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
    """Write values as ``set`` does, and then return others as ``get`` does; if it can, at once."""
    at_once: Callable[..., list[bytes | None]] | None = getattr(store, "exchange", None)
    if values and keys and at_once is not None:
        return at_once(values, keys)
    if values:
        store.set(values)
    return store.get(keys) if keys else []


class Will(NamedTuple):
    """What a store writes in a node's name once that node is gone without a word.

    The kernel ends the connections of a process at once, however the process ends. So a store that
    has connections, the store server, can tell the other nodes of a killed agent within
    milliseconds. Any other store ignores a will, and the node's missing heartbeat tells the others.

    Args:
        values: Values that are written, whatever stands there.
        create: Values that are written where none is, unless a key of ``unless`` is there.
        unless: Keys that mean that the node is not needed any more.
    """

    values: Mapping[str, bytes]
    create: Mapping[str, bytes]
    unless: tuple[str, ...]


def leave_will(store: Store, will: Will) -> None:
    """Leave a will with a store, if that carries wills out; it replaces the one before.

    A connection that was lost takes none.
    """
    leave: Callable[[Will], None] | None = getattr(store, "leave_will", None)
    if leave is not None:
        leave(will)


Told = list[bytes] | BaseException | None
"""The values, or why there will be none; None: the time was over first."""


class WatchableStore(Protocol):
    """A store whose waits need no thread of their own."""

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        """Call ``hear`` once every key is there, or the store is lost or closed.

        Args:
            keys: At least one.
            hear: Is called once, from any thread; neither blocks nor raises.

        Returns:
            Ends the wait; returns False if ``hear`` has been called or is about to be.
        """


def watch(
    store: Store, keys: Sequence[str], timeout_s: float | None, hear: Callable[[Told], None]
) -> Callable[[], bool] | None:
    """Call ``hear`` once every key is there, the time is over, or the store is lost or closed.

    Args:
        store: Where the values will be.
        keys: At least one.
        timeout_s: See ``Store.wait``.
        hear: Is called once, from any thread; neither blocks nor raises.

    Returns:
        What ends the wait, for the caller to call after the time-out: then ``hear`` is not called.
        None: the wait ends by itself.

    Raises:
        NoThreadError: The system grants no thread.
    """
    try:
        if timeout_s is not None and timeout_s <= 0:
            hear(store.wait(keys, timeout_s))
            return None
        if hasattr(store, "watch"):
            return cast("WatchableStore", store).watch(keys, hear)
    except RendezvousError as error:
        hear(error)
        return None
    start_daemon(_wait, "elrun-wait", store, keys, timeout_s, hear)
    return None


def _wait(
    store: Store, keys: Sequence[str], timeout_s: float | None, hear: Callable[[Told], None]
) -> None:
    try:
        found = store.wait(keys, timeout_s)
    except BaseException as error:  # noqa: BLE001  a caller would wait without end
        hear(error)
    else:
        hear(found)


def read_by(store: Store, loop: Loop | None) -> None:
    """Have a loop read a store's answers, if the store can do that; else it has its own thread.

    The caller has made no other call to the store yet.
    """
    read: Callable[[Loop], None] | None = getattr(store, "read_by", None)
    if loop is not None and read is not None:
        read(loop)


class Moves(Protocol):
    """The places at which a run may have its store, of which it uses one."""

    at: int
    """Index of the place that is used; places that are named earlier go before later ones."""

    def survey(self) -> Iterator[tuple[int, Store]]:
        """Yield the other places that have a store now, which the caller closes."""

    def choose(self, place: int) -> None:
        """Look there first when the store is reached next."""


class Connection(NamedTuple):
    """A store within reach.

    Args:
        address: Address of this node that the others should use.
        address_now: Finds the address that they should use now, as a host may get another one;
            None: the same.
        is_host: Whether the store lives in this process and vanishes with it.
        moves: Where else the run's store may be; None if nowhere.
    """

    store: Store
    address: str
    is_host: bool = False
    moves: Moves | None = None
    address_now: Callable[[], str | None] = lambda: None
