"""A ``Store`` over torch's TCPStore.

Four habits of TCPStore shape it:

- A call that blocks keeps its connection to itself. So every wait has a connection of its own.
- A time-out is a failure to it, told on standard error. So no wait has one: a thread blocks as long
  as it takes, and the deadline is watched in Python. A thread whose wait nobody wants any more ends
  when its keys are written after all, or with the store.
- ``set`` is not answered. So a store that is lost shows in the calls that are.
- A server that says nothing any more is waited for without end. So calls are watched
  (``call_timeout.py``), and its connections broken off when it is time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ...errors import RendezvousConnectionError, RendezvousError
from ...protocol.counters import count_in
from ..notify import Told
from .call_timeout import AnswerWatch
from .waits import Waits

_CLOSING_S = 1.0
_MOST_REPAIRS = 100

_T = TypeVar("_T")


def takes_listening_socket(version: str) -> bool:
    """Return whether torch serves a store at a socket that listens already.

    Before 2.8 its server, libuv's, refuses one. The older server, which does not, is none for us:
    with it a node that comes late is not heard of.

    Args:
        version: torch's: ``2.7.1+cpu``.
    """
    return tuple(int(part) for part in version.split(".")[:2]) >= (2, 8)


class TcpStore:
    """A ``Store`` over connections to one TCPStore server.

    Args:
        endpoint: How people call the place.
        connect: Opens a further connection.
        server: The connection that holds the server, if this process hosts it.
        watch: Notices when the server answers no more, if it is in another process.

    Raises:
        RendezvousConnectionError: The first connection can't be opened.
    """

    def __init__(
        self,
        endpoint: str,
        connect: Callable[[], Any],
        server: Any = None,
        watch: AnswerWatch | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._connect = connect
        self._server = server
        self._watch = watch
        self._silence = ""
        self._client = server if server is not None else self._call(connect)
        self._waits = Waits(
            lambda: self._call(connect),
            lambda client, keys: self._call_for_long(client.multi_get, list(keys)),
        )
        if watch is not None:
            watch.subscribe(self._lose)

    def aside(self) -> TcpStore:
        """Return the same store over a connection of its own, which may be busy without harm.

        Raises:
            RendezvousConnectionError: The connection can't be opened.
        """
        return TcpStore(self._endpoint, self._connect, watch=self._watch)

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``.

        To a key that is no number TCPStore does not add: it closes the connection.
        """
        if amount == 0:
            return count_in(self.get([key])[0])
        try:
            return int(self._call(self._open_client().add, key, amount))
        except RendezvousConnectionError as error:
            lost = error
        for _ in range(_MOST_REPAIRS):
            if not self._repair(key):
                raise lost
            with contextlib.suppress(RendezvousConnectionError):
                return int(self._call(self._open_client().add, key, amount))
        raise lost

    def _repair(self, key: str) -> bool:
        """Connect anew, and begin a counter anew that is no number; return whether that was so."""
        if self._silence:
            return False
        self._client = self._call(self._connect)
        (data,) = self.get([key])
        if data is None or data == b"%d" % count_in(data):
            return False
        # What a stranger has written meanwhile is no number either: the caller finds out.
        self.create(key, b"0", data)
        return True

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values; see ``Store.set``."""
        if values:
            self._call(self._open_client().multi_set, list(values), list(values.values()))

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, None for each that isn't there; see ``Store.get``."""
        client = self._open_client()
        wanted = list(keys)
        if not wanted:
            return []
        # Not by compare_set(), which has values for missing keys, but wakes those that wait for
        # them. Nor one by one at first: mostly all are there, or there are few.
        if not self._call(client.check, wanted):
            wanted = [key for key in wanted if self._call(client.check, [key])]
        values = self._call(client.multi_get, wanted) if wanted else []
        found = dict(zip(wanted, values, strict=True))
        return [found.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        return bytes(self._call(self._open_client().compare_set, key, instead_of, value))

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; see ``Store.wait``."""
        outcome = self._waits.begin(keys).result(timeout_s)
        if isinstance(outcome, RendezvousError):
            raise RendezvousConnectionError(str(outcome)) from outcome
        return outcome

    def tell(self, key: str, hear: Callable[[Told], None]) -> None:
        """Have ``hear`` called with a value once it is there; see ``notify.tell``."""
        self._waits.begin([key]).subscribe(
            lambda outcome: hear(outcome if isinstance(outcome, RendezvousError) else outcome[0])
        )

    def close(self) -> None:
        """Let go of the connections, and of the server if it is here; see ``Store.close``."""
        if self._watch is not None:
            self._watch.unsubscribe(self._lose)
        is_host = self._server is not None
        self._client = self._server = None
        # Were threads to return from torch while the interpreter goes down, it would end them in a
        # way that makes C++ abort the process. Those that wait return once the server is gone.
        busy_for_s = _CLOSING_S if is_host else 0.0
        self._waits.close(self._closed_error(), busy_for_s, idle_for_s=_CLOSING_S)

    def _open_client(self) -> Any:
        client = self._client
        if client is None:
            raise self._closed_error()
        return client

    def _closed_error(self) -> RendezvousConnectionError:
        return RendezvousConnectionError(f"the connection to {self._endpoint} was closed")

    def _lose(self, reason: str) -> None:
        """Take note that the server is lost, before the connections are broken off."""
        self._silence = reason
        self._waits.fail(self._lost_error(reason))

    def _lost_error(self, reason: str) -> RendezvousConnectionError:
        return RendezvousConnectionError(
            f"the rendezvous store at {self._endpoint} was lost: {reason}"
        )

    def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call torch for something that is answered at once."""
        if self._watch is None:
            return self._call_for_long(function, *args)
        watched: Callable[..., _T] = self._watch.call
        return self._call_for_long(watched, function, *args)

    def _call_for_long(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call torch, whose errors become ours here and nowhere else."""
        try:
            return function(*args)
        except RuntimeError as error:  # of which torch's DistError is one
            reason = self._silence or _in_plain_words(error)
            raise self._lost_error(reason) from error


def _in_plain_words(error: RuntimeError) -> str:
    """Return torch's reason, or what it means where that is known."""
    said = (str(error).splitlines() or [""])[0]
    if any(sign in said for sign in ("Failed to recv", "Broken pipe", "Connection reset")):
        return "its host has closed the connection"
    return said
