"""Procedures of the protocol as steps: each step asks for something, and gets the answer later.

A procedure is a generator. It yields ``Request``s, and is resumed with each answer, or with the
error that came instead. So a procedure does no I/O, reads no clock, and does not know how its
requests are carried out: ``perform`` makes blocking calls, and ``node/machine.py`` runs several
procedures of one node side by side, for a driver with threads or for a simulator without any.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from ..errors import RendezvousError
from ..light_typing import Any, TypeVar
from ..named_tuple import NamedTuple
from .store import Store, Will, exchange, leave_will

_T = TypeVar("_T")

SLEEP, CONNECT, SURVEY, CHOOSE, PREPARE = "sleep", "connect", "survey", "choose", "prepare"
TAKE_ENDPOINT, RELEASE_PORT = "take_endpoint", "release_port"
"""The requests that are for no store; all but the first are methods of ``node/resources.py``:

sleep(seconds)       an answer once the time is over
connect(forming)     a ``Reached``, once there is a store; a run that begins there begins with
                     the round ``forming``
survey()             the other endpoints that have a store now: a list of (place, store)
choose(place)        begin with this endpoint at the next ``connect``
prepare()            do what the backend does each time before the node takes a seat
take_endpoint()      an ``Endpoint`` for the workers' store: the address that this node has by now
                     towards the store that it reached last, and a port that is kept free
release_port(number) keep it no longer
"""


class Request(NamedTuple):
    """What a procedure asks for.

    Args:
        store: The store that is to answer; None: the request is for no store.
        name: A method of ``Store``, ``exchange``, ``leave_will``, or one of the names above.
    """

    store: Any
    name: str
    args: tuple[Any, ...]


TYPE_CHECKING = False
if TYPE_CHECKING:
    Steps = Generator[Request, Any, _T]
    """A procedure that returns a ``_T`` in the end."""
else:
    Steps = Generator


class Reached(NamedTuple):
    """A store that is within reach.

    Args:
        store: The store, as ``Request`` names it.
        address: Address of this node when the store was reached.
        forming: The number of the round that formed when the store was reached.
        is_host: Whether the store lives in this process and vanishes with it.
        at: Index of the endpoint, if the run may go on at another one; None: there is no other.
    """

    store: Any
    address: str
    forming: int
    is_host: bool = False
    at: int | None = None


class Asking:
    """Makes the requests to one store.

    The methods are those of ``Store``, and functions of ``store.py``, with their arguments. The
    answer to a request is what they return.

    Args:
        store: The store, as ``Request`` names it.
    """

    __slots__ = ("store",)

    def __init__(self, store: Any) -> None:
        self.store = store

    def add(self, key: str, amount: int) -> Request:
        return Request(self.store, "add", (key, amount))

    def set(self, values: Mapping[str, bytes]) -> Request:
        return Request(self.store, "set", (values,))

    def get(self, keys: Sequence[str]) -> Request:
        return Request(self.store, "get", (keys,))

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> Request:
        args = (key, value, instead_of) if instead_of else (key, value)
        return Request(self.store, "create", args)

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> Request:
        return Request(self.store, "wait", (keys, timeout_s))

    def exchange(self, values: Mapping[str, bytes], keys: Sequence[str]) -> Request:
        return Request(self.store, "exchange", (values, keys))

    def leave_will(self, will: Will) -> Request:
        return Request(self.store, "leave_will", (will,))

    def close(self) -> Request:
        return Request(self.store, "close", ())


def sleep(seconds: float) -> Request:
    """Return the request for an answer after some seconds."""
    return Request(None, SLEEP, (seconds,))


def call(store: Store, name: str, args: tuple[Any, ...]) -> Any:
    """Carry out a request to a store by a blocking call; return its answer."""
    if name == "exchange":
        return exchange(store, *args)
    if name == "leave_will":
        return leave_will(store, *args)
    return getattr(store, name)(*args)


def perform(steps: Steps[_T]) -> _T:
    """Carry out a procedure, all of whose requests are to stores, by blocking calls.

    Returns:
        What the procedure returns.
    """
    try:
        request = next(steps)
        while True:
            try:
                answer = call(*request)
            except (RendezvousError, ValueError) as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        result: _T = end.value
        return result
