"""What one node has opened for its rendezvous, to be closed together: stores, and ports."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable

from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousEntryError,
    RendezvousRefusalError,
)
from ..network.addresses import Endpoint
from ..network.ports import PortClaim
from ..protocol.keys import RunKeys
from ..stores.loop import Loop
from ..stores.signed import Secret, signed_view
from ..stores.steps import Asking, Reached, perform
from ..stores.store import Connection, Limit, Stop, Store, read_by
from .store_session import enter_run


class Resources:
    """The stores and ports of one node; the machine names each by a number. Any thread may call.

    Args:
        reach: Reaches the store; gives up when the event is set.
        prepare: Called each time before the node takes a seat.
    """

    def __init__(
        self,
        run: RunKeys,
        reach: Callable[[threading.Event], Connection],
        secret: Secret | None,
        prepare: Callable[[], None],
    ) -> None:
        self._run = run
        self._reach = reach
        self._secret = secret
        self.prepare = prepare
        self._numbers = itertools.count()
        self._stops_connecting = Stop()
        self._loop: Loop | None = None
        self._reached: Connection | None = None  # the last one
        # The lock guards what follows.
        self._lock = threading.Lock()
        self._is_closed = False
        self._stores: dict[int, Store] = {}
        self._claims: dict[int, PortClaim] = {}

    def read_by(self, loop: Loop) -> None:
        """Have a loop read the connections of the stores that are reached from now on."""
        self._loop = loop

    def store(self, number: int) -> Store:
        """Return a store.

        Raises:
            RendezvousConnectionError: It was closed.
        """
        with self._lock:
            store = self._stores.get(number)
        if store is None:
            raise RendezvousConnectionError("the connection to the store was closed")
        return store

    def claim(self, port: int) -> PortClaim | None:
        """Return the claim to a port, if the port is kept free."""
        with self._lock:
            return self._claims.get(port)

    def connect(self, forming: int) -> Reached:
        """Reach the store, and enter the run; see ``steps.CONNECT``.

        Raises:
            RendezvousEntryError: The store was lost at once, and the run may be elsewhere.
        """
        connection = self._reach(self._stops_connecting)
        number = self._keep(connection.store)  # first: `close` ends the requests that follow
        try:
            forming = perform(enter_run(Asking(connection.store), self._run, self._secret, forming))
        except BaseException as error:  # raised again, when the connection is closed
            self.close_store(number)
            is_lost = isinstance(error, RendezvousConnectionError)
            is_lost = is_lost and not isinstance(error, RendezvousRefusalError)
            if is_lost and connection.moves is not None:
                raise RendezvousEntryError(str(error)) from error
            raise
        self._reached = connection
        at = None if connection.moves is None else connection.moves.at
        return Reached(number, connection.address, forming, connection.is_host, at)

    def survey(self) -> list[tuple[int, int]]:
        """Return the other endpoints that have a store now, each with the number of its store."""
        found: list[tuple[int, int]] = []
        if self._reached is None or self._reached.moves is None:
            return found
        for place, store in self._reached.moves.survey():
            with contextlib.suppress(OSError):  # the kernel watches no more
                found.append((place, self._keep(store)))
        return found

    def choose(self, place: int) -> None:
        """Begin with this endpoint when the store is reached next."""
        if self._reached is not None and self._reached.moves is not None:
            self._reached.moves.choose(place)

    def close_store(self, number: int) -> None:
        """Close a store, unless it was closed."""
        with self._lock:
            store = self._stores.pop(number, None)
        if store is not None:
            store.close()

    def take_endpoint(self) -> Endpoint:
        """Return this node's address, and a port that is kept free from now on.

        Raises:
            RendezvousClosedError: No store was reached, or all were closed.
        """
        if self._reached is None:
            raise self.closed_error()
        address = self._reached.address_now() or self._reached.address
        claim = PortClaim.take()
        with self._lock:
            if not self._is_closed:
                self._claims[claim.port] = claim
                return Endpoint(address, claim.port)
        claim.release()
        raise self.closed_error()

    def release_port(self, port: int) -> None:
        with self._lock:
            claim = self._claims.pop(port, None)
        if claim is not None:
            claim.release()

    def limit_connecting(self, limit: Limit) -> None:
        """Try to reach the store for another time than ``join_timeout`` from now on."""
        self._stops_connecting.limit = limit

    def stop_connecting(self) -> None:
        self._stops_connecting.set()

    def close(self) -> None:
        """Close all; nothing can be opened any more."""
        with self._lock:
            self._is_closed = True
            stores, self._stores = list(self._stores.values()), {}
            claims, self._claims = list(self._claims.values()), {}
        for store in stores:
            store.close()
        for claim in claims:
            claim.release()

    def closed_error(self) -> RendezvousClosedError:
        """Return the error of a call to a rendezvous that has been shut down."""
        return RendezvousClosedError(f"this node has left run {self._run.run_id!r}")

    def _keep(self, store: Store) -> int:
        number = next(self._numbers)
        signed = store if self._secret is None else signed_view(store, self._secret)
        with self._lock:
            is_closed = self._is_closed
            if not is_closed:
                self._stores[number] = signed
        if is_closed:
            store.close()
            raise self.closed_error()
        try:
            read_by(store, self._loop)
        except OSError:
            self.close_store(number)
            raise
        return number
