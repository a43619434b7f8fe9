"""Where the nodes of a run with several endpoints meet: at one endpoint, at the next if it fails.

All nodes have the same list of endpoints. Each node tries the endpoints in order, from the one
after the endpoint where it was last, and stays at the first that has a store. If no endpoint has a
store, the node at the first endpoint hosts one, and the others find it; if that node does not, the
node at the next endpoint does. At the start of a job, the node at a later endpoint waits for long
before it hosts a store.

A store has no quorum: if the network splits, each part may have a store of its own. The nodes of a
part that is too small for a round look at the other endpoints until they find the other part
(``Scout``). So two parts go on by themselves only if each has the minimum of nodes.
A minimum of more than half of all nodes, spares included, rules that out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from ...errors import RendezvousConnectionError, RendezvousError
from ...light_typing import Any, Protocol
from ...named_tuple import NamedTuple
from ...protocol.timing import seconds_in_words
from ..store import Connection, Store
from .retry import Retry

TAKE_OVER_S = 30.0
STEP_S = 3.0

_TRY_S = 2.0


class Reachable(Protocol):
    """One endpoint, as seen from a node."""

    @property
    def is_here(self) -> bool:
        """Whether this node is the one that would serve there."""

    def join(self, timeout_s: float) -> Connection:
        """Return a connection to whoever serves there; raise RendezvousConnectionError if none."""

    def host(self) -> Connection | None:
        """Host the store there; None if another agent of this host does."""


class Look(NamedTuple):
    """Step of a search: join the store at an endpoint; the answer is the connection.

    Args:
        hosts: Whether to host a store there instead; the answer None says that somebody else does.
    """

    place: int
    hosts: bool = False


class Rest(NamedTuple):
    """Step of a search: pause; the answer is whether there is time for another attempt."""

    reason: str


class Succession:
    """Reaches the store at whichever of several endpoints it is.

    Args:
        places: The endpoints, in the order that all nodes were given.
        take_over_s: How long, at the start of a job, an endpoint's node has to come before the
            next one's serves instead.
    """

    def __init__(
        self,
        places: Sequence[Reachable],
        timeout_s: float,
        take_over_s: float = TAKE_OVER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._timeout_s = timeout_s
        self._take_over_s = take_over_s
        self._clock = clock
        self.at = 0
        """Where this node is, or was last: an index into the endpoints."""
        self._first = 0
        self._has_begun = False

    def __call__(self, stop: threading.Event) -> Connection:
        """Return a connection, as soon as there is something to connect to.

        Raises:
            RendezvousConnectionError: None of the endpoints can be hosted or reached in time.
        """
        place, state = "the rendezvous", "the rendezvous is at none of its endpoints"
        retry = Retry(stop, self._timeout_s, place, state, self._clock)
        search = self.search(lambda: retry.waited_s)
        step, answer, failure = next(search), None, None
        while True:
            try:
                answer, failure = self._take(step, retry), None
            except RendezvousConnectionError as error:
                failure = error
            try:
                step = search.send(answer) if failure is None else search.throw(failure)
            except StopIteration as end:
                connection: Connection = end.value
                return connection._replace(moves=self)

    def search(self, waited_s: Callable[[], float]) -> Generator[Look | Rest, Any, Any]:
        """Return the search as a procedure, whose steps are ``Look`` and ``Rest``."""
        while True:
            reasons = []
            for index in self._order():
                try:
                    connection = yield Look(index)
                except RendezvousConnectionError as error:
                    reasons.append(str(error))
                else:
                    self._settle(index)
                    return connection
            for index in self._order_to_host(waited_s()):
                connection = yield Look(index, hosts=True)
                if connection is not None:
                    self._settle(index)
                    return connection
            if not (yield Rest("; ".join(reasons))):
                raise RendezvousConnectionError(
                    f"the rendezvous could be reached at none of its endpoints within "
                    f"{seconds_in_words(self._timeout_s)} s: {'; '.join(reasons)}"
                )

    def _take(self, step: Look | Rest, retry: Retry) -> Connection | bool | None:
        if isinstance(step, Rest):
            return retry.pause(step.reason)
        place = self._places[step.place]
        return place.host() if step.hosts else place.join(_TRY_S)

    def survey(self) -> Iterator[tuple[int, Store]]:
        """Yield the other endpoints that have a store now, each with the store, to be closed."""
        for index, place in enumerate(self._places):
            if index == self.at:
                continue
            try:
                connection = place.join(_TRY_S)
            except (RendezvousError, OSError):  # nobody is there, another job, or no thread is left
                continue
            yield index, connection.store

    def choose(self, place: int) -> None:
        """Try this endpoint first from now on."""
        self._first = place

    def _order_to_host(self, waited_s: float) -> list[int]:
        """Return this node's own endpoints, as far as all before them have had their time."""
        return [
            index
            for position, index in enumerate(self._order())
            if self._places[index].is_here and waited_s >= self._due_s(position)
        ]

    def _due_s(self, position: int) -> float:
        return position * (STEP_S if self._has_begun else self._take_over_s)

    def _settle(self, index: int) -> None:
        self.at, self._first, self._has_begun = index, index + 1, True

    def _order(self) -> list[int]:
        count = len(self._places)
        return [(self._first + step) % count for step in range(count)]
