"""One node's connection to the store of its run: opened when needed, and again after a loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import RendezvousClosedError, RendezvousError
from ..protocol.keys import RunKeys
from ..protocol.wire import read_forming, read_verdict
from ..stores.signed import Secret, SignedStore
from ..stores.store import Connection, Moves, Store
from ..threads import start_thread
from .entry import enter_run

_NO_RUN = (False, -1)


class StoreSession:
    """Opens and closes the connection of one node to its store.

    Args:
        run: The run's keys.
        connect: Reaches the store; gives up when the event is set.
        secret: The secret of the run's nodes, if they have one.
        scout_s: Time between two looks at the other endpoints.
    """

    def __init__(
        self,
        run: RunKeys,
        connect: Callable[[threading.Event], Connection],
        secret: Secret | None,
        scout_s: float = 2.0,
    ) -> None:
        self._run = run
        self._connect = connect
        self._secret = secret
        self._scout_s = scout_s
        self._given_up = threading.Event()
        # The lock guards what follows; only ``open`` sets a connection, in one thread at a time.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._forming = 0

    @property
    def connection(self) -> Connection | None:
        """The connection; None before the first ``open`` and after a loss."""
        with self._lock:
            return self._connection

    @property
    def forming(self) -> int:
        """The number of the round that was forming when the store was reached."""
        with self._lock:
            return self._forming

    @property
    def can_move(self) -> bool:
        """Whether the run has another endpoint to go on at."""
        connection = self.connection
        return connection is not None and connection.moves is not None

    def open(self, forming: int = 0) -> Connection:
        """Return the connection; reach the store first if there is none.

        Args:
            forming: The round to begin with in a store that knows nothing of the run.

        Raises:
            RendezvousConnectionError: The store can't be reached.
            RendezvousStateError: The run refuses this node.
            RendezvousClosedError: ``give_up`` was called.
        """
        standing = self.connection
        if standing is not None:
            return standing
        connection = self._connect(self._given_up)
        try:
            forming = enter_run(connection.store, self._run, self._secret, forming)
        except RendezvousError:
            connection.store.close()
            raise
        connection = self._signed(connection)
        with self._lock:
            if not self._given_up.is_set():
                self._connection, self._forming = connection, forming
                return connection
        connection.store.close()
        raise self._closed()

    def store(self) -> Store:
        """Return the store.

        Raises:
            RendezvousClosedError: This node is not connected.
        """
        connection = self.connection
        if connection is None:
            raise self._closed()
        return connection.store

    def disconnect(self) -> None:
        """Close the connection to a store that was lost; ``open`` then connects again."""
        connection = self._forget()
        if connection is not None:
            connection.store.close()

    def give_up(self) -> Connection | None:
        """Open no connection any more; return the one that is there, which the caller closes."""
        self._given_up.set()
        return self._forget()

    def _forget(self) -> Connection | None:
        with self._lock:
            connection, self._connection = self._connection, None
        return connection

    @contextmanager
    def scouting(self, leave: Callable[[], None]) -> Iterator[None]:
        """Look at the other endpoints while this node waits in a forming round.

        If the run has come further at another endpoint, this connection is closed, so that the
        wait ends with a connection error, and ``open`` connects there. It has come further if a
        round runs there and none runs here. Where that is the same, the higher number of the
        forming round decides; where that is the same, too, the order of the endpoints.

        Once the wait has ended, the connection is not closed any more.

        Args:
            leave: Gives up this node's seats, before the connection is closed: a round may have
                begun with this node before it has heard of that.
        """
        connection = self.connection
        if connection is None or connection.moves is None:
            yield
            return
        is_over, leaving = threading.Event(), threading.Lock()
        scout = threading.Thread(
            target=self._scout,
            args=(connection, connection.moves, is_over, leaving, leave),
            name="elrun-scout",
            daemon=True,
        )
        start_thread(scout)
        try:
            yield
        finally:
            with leaving:
                is_over.set()

    def _scout(
        self,
        connection: Connection,
        moves: Moves,
        is_over: threading.Event,
        leaving: threading.Lock,
        leave: Callable[[], None],
    ) -> None:
        while not is_over.wait(self._scout_s):
            here = self._progress_at(connection.store)
            for place, store in moves.survey():
                there = self._progress_at(self._sign(store))
                store.close()
                if there == _NO_RUN or (there, -place) <= (here, -moves.at):
                    continue
                with leaving:
                    if not is_over.is_set():
                        moves.choose(place)
                        with suppress(RendezvousError):
                            leave()
                        connection.store.close()
                return

    def _progress_at(self, store: Store) -> tuple[bool, int]:
        """Return whether a round runs in a store, or the run has ended there; and which forms."""
        try:
            (record,) = store.get([self._run.record])
            if record is None:
                return _NO_RUN
            forming = read_forming(self._run.record, record)
            last = self._run.round(forming - 1)
            roster, verdict = store.get([last.roster, last.verdict])
            is_over = verdict is not None and not read_verdict(last.verdict, verdict).kind.ends_run
        except RendezvousError:
            return _NO_RUN
        return roster is not None and not is_over, forming

    def _signed(self, connection: Connection) -> Connection:
        return connection._replace(store=self._sign(connection.store))

    def _sign(self, store: Store) -> Store:
        return store if self._secret is None else SignedStore(store, self._secret)

    def _closed(self) -> RendezvousClosedError:
        return RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
