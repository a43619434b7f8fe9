"""A ``Store`` over one connection to a store server.

All calls, and any number of waits, go over the one connection: each has a number, and a thread that
reads hands every answer to whoever asked. A server that answers no more is lost after a while, as
TCP bears silence for a quarter of an hour; a wait may last, but a node's heart beats beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...errors import RendezvousConnectionError, RendezvousError
from ...protocol.timing import STORE_PATIENCE_S
from ...threads import start_thread
from ..notify import Told
from .server import StoreServer
from .wire import (
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    MAX_VALUE_BYTES,
    Add,
    Answer,
    Create,
    Forget,
    FrameReader,
    Get,
    Hello,
    Refusal,
    Request,
    Set,
    Wait,
    WireError,
    read_answer,
    read_answer_to_hello,
    write_hello,
    write_request,
)

_READ_BYTES = 256 << 10
_CLOSING_S = 1.0
_SET_BYTES = 4 << 20
# A time-out is cut into so many: if this process was stopped meanwhile, only one has passed.
_SLICES = 8


def shake_hands(connection: socket.socket, hello: Hello, timeout_s: float) -> str | Refusal:
    """Say who this node is; return the mark of the store that lets it in, or why it does not.

    Args:
        connection: A connection to a server that has answered nothing yet.
        hello: Who this node is.
        timeout_s: Seconds for each step.

    Raises:
        OSError: The connection is lost, or nothing came in time.
        WireError: It is no store server that answers.
    """
    connection.settimeout(timeout_s)
    connection.sendall(write_hello(hello))
    frames = FrameReader(MAX_HELLO_BYTES)
    while data := connection.recv(MAX_HELLO_BYTES):
        for message in frames.feed(data):
            return read_answer_to_hello(message)
    raise WireError("it closes the connection")


class _Pending:
    """A request that has not been answered."""

    def __init__(self, hear: Callable[[Told], None] | None = None) -> None:
        self._is_over = threading.Event()
        self._hear = hear
        self.parts: list[bytes | None] = []
        self.count = 0
        self.error: RendezvousConnectionError | None = None

    def end(self, error: RendezvousConnectionError | None = None) -> None:
        self.error = error
        self._is_over.set()
        if self._hear is not None:
            told = error if error is not None else self.parts[0]
            self._hear(b"" if told is None else told)

    def await_end(self, timeout_s: float | None = None) -> bool:
        return self._is_over.wait(timeout_s)


class StoreClient:
    """One node's connection.

    Args:
        connection: Connected, and welcomed.
        endpoint: How people call the place.
        patience_s: How long the server may leave a request without an answer.
        server: The server, if it is in this process and ends with this connection.
    """

    def __init__(
        self,
        connection: socket.socket,
        endpoint: str,
        patience_s: float = STORE_PATIENCE_S,
        server: StoreServer | None = None,
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._server = server
        connection.settimeout(None)
        limit = struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._numbers = itertools.count(1)
        self._sending = threading.Lock()
        # What follows is written under the lock.
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._ended: RendezvousConnectionError | None = None
        self._reader = start_thread(
            threading.Thread(target=self._read, name="elrun-store-client", daemon=True)
        )

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``."""
        return self._ask(Add(key, amount)).count

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values; see ``Store.set``."""
        for part in _parts_of(values):
            self._ask(Set(part))

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, None for each that isn't there; see ``Store.get``."""
        return self._ask(Get(tuple(keys))).parts if keys else []

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        return self._ask(Create(key, value, instead_of)).parts[0] or b""

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; see ``Store.wait``."""
        number, pending = self._begin(Wait(tuple(keys)))
        if not pending.await_end(timeout_s):
            with self._lock:
                is_answered = self._pending.pop(number, None) is None
            if not is_answered:
                self._send(next(self._numbers), Forget(number))
                return None
            pending.await_end()
        if pending.error is not None:
            raise self._copy_of(pending.error)
        return [value or b"" for value in pending.parts]

    def tell(self, key: str, hear: Callable[[Told], None]) -> None:
        """Have ``hear`` called with a value once it is there; see ``notify.tell``."""
        try:
            self._begin(Wait((key,)), hear)
        except RendezvousConnectionError as error:
            hear(error)

    def close(self) -> None:
        """Let go of the connection, and of the server if it is here; see ``Store.close``."""
        self._end(RendezvousConnectionError(f"the connection to {self._endpoint} was closed"))
        if self._reader is not threading.current_thread():
            self._reader.join(_CLOSING_S)
        if self._server is not None:
            self._server.close()

    def _ask(self, request: Request) -> _Pending:
        """Return how a request was answered, that is answered at once."""
        _, pending = self._begin(request)
        if not any(pending.await_end(self._patience_s / _SLICES) for _ in range(_SLICES)):
            self._lose(
                f"it has not answered for {self._patience_s:g} s (--rdzv-conf store_patience=...)"
            )
            pending.await_end()
        if pending.error is not None:
            raise self._copy_of(pending.error)
        return pending

    def _begin(
        self, request: Request, hear: Callable[[Told], None] | None = None
    ) -> tuple[int, _Pending]:
        pending = _Pending(hear)
        with self._lock:
            if self._ended is not None:
                raise self._copy_of(self._ended)
            number = next(self._numbers)
            self._pending[number] = pending
        self._send(number, request)
        return number, pending

    def _send(self, number: int, request: Request) -> None:
        frame = write_request(number, request)
        try:
            with self._sending:
                self._connection.sendall(frame)
        except BlockingIOError:  # SO_SNDTIMEO's way to say so; a part of it may have gone
            self._lose(f"it has taken nothing for {self._patience_s:g} s")
        except OSError:
            self._lose("its host has closed the connection")

    def _read(self) -> None:
        frames = FrameReader(MAX_FRAME_BYTES)
        reason = "a fault in its reader"
        try:
            while data := self._connection.recv(_READ_BYTES):
                for message in frames.feed(data):
                    self._take(read_answer(message))
            reason = "its host has closed the connection"
        except WireError as error:
            reason = f"what it sends is not understood: {error}"
        except OSError:  # shut down from this side, or reset
            reason = "its host has closed the connection"
        finally:  # whatever ended the reader, nobody waits for it any more
            self._lose(reason)
            with self._sending:  # lest another thread sends to what its number is by then
                self._connection.close()

    def _take(self, answer: Answer) -> None:
        with self._lock:
            pending = self._pending.get(answer.number)
            if pending is not None and not answer.has_more:
                del self._pending[answer.number]
        if pending is None:  # a wait that was taken back
            return
        pending.parts += answer.values
        pending.count = answer.count
        if not answer.has_more:
            pending.end(
                RendezvousConnectionError(
                    f"the rendezvous store at {self._endpoint} refused a request: {answer.error}"
                )
                if answer.error
                else None
            )

    def _lose(self, reason: str) -> None:
        said = f"the rendezvous store at {self._endpoint} was lost: {reason}"
        self._end(RendezvousConnectionError(said))

    def _end(self, error: RendezvousConnectionError) -> None:
        with self._lock:
            self._ended = self._ended or error
            pending, self._pending = list(self._pending.values()), {}
            error = self._ended
        with contextlib.suppress(OSError):  # it is shut down already
            self._connection.shutdown(socket.SHUT_RDWR)
        for each in pending:
            each.end(error)

    @staticmethod
    def _copy_of(error: RendezvousError) -> RendezvousConnectionError:
        """Return an error to be raised: one that was raised before has a traceback already."""
        return RendezvousConnectionError(str(error))


def _parts_of(values: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Yield values in parts of which each fits into a frame.

    Raises:
        ValueError: One of them doesn't.
    """
    part: dict[str, bytes] = {}
    size = 0
    for key, value in values.items():
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"{key}: {len(value)} bytes, and {MAX_VALUE_BYTES} are allowed")
        if part and size + len(key) + len(value) > _SET_BYTES:
            yield part
            part, size = {}, 0
        part[key] = value
        size += len(key) + len(value)
    if part:
        yield part
