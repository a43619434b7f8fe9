"""One node's way to the store of its run: opened when it is needed, and anew when it was lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import RendezvousClosedError, RendezvousError
from ..protocol.keys import RunKeys
from ..protocol.wire import read_forming, read_verdict
from ..stores.signed import Secret, SignedStore
from ..stores.store import Connection, Moves, Store
from .entry import enter_run

_LOOK_ELSEWHERE_S = 2.0
_NOWHERE = (False, -1)


class Access:
    """Opens and closes the connections of one node.

    Args:
        run: The run's keys.
        connect: Reaches the store; gives up when the event is set.
        secret: What the nodes of the run know, if anything.
    """

    def __init__(
        self,
        run: RunKeys,
        connect: Callable[[threading.Event], Connection],
        secret: Secret | None,
    ) -> None:
        self._run = run
        self._connect = connect
        self._secret = secret
        self._given_up = threading.Event()
        # What follows is written under the lock.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._aside: Store | None = None
        self._forming = 0

    @property
    def connection(self) -> Connection | None:
        """The connection, if there is one."""
        return self._connection

    @property
    def forming(self) -> int:
        """The round that was forming when the store was reached."""
        return self._forming

    @property
    def can_move(self) -> bool:
        """Whether the run has another place to meet at."""
        return self._connection is not None and self._connection.moves is not None

    def open(self, forming: int = 0) -> Connection:
        """Return the connection; reach the store, if there is none.

        Args:
            forming: The round to begin with in a store that knows nothing of the run.

        Raises:
            RendezvousConnectionError: It can't be reached.
            RendezvousStateError: The run refuses this node.
            RendezvousClosedError: ``give_up`` was called.
        """
        if self._connection is not None:
            return self._connection
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

    def aside(self, broken: Store | None = None) -> Store:
        """Return the store over a connection that may be busy without harm to the first one.

        Args:
            broken: What it returned before, if that is of no use any more.
        """
        connection = self._connection
        if connection is None:
            raise self._closed()
        if connection.open_aside is None:
            return connection.store
        standing = self._aside
        if standing is not None and standing is not broken:
            return standing
        aside = connection.open_aside()
        with self._lock:
            is_wanted = self._connection is connection
            if is_wanted:
                self._aside = aside
        if is_wanted and standing is not None:
            standing.close()
        if is_wanted:
            return aside
        aside.close()
        raise self._closed()

    def drop(self) -> None:
        """Let go of a store that was lost: ``open`` looks for it, or for another one, anew."""
        with self._lock:
            connection, self._connection = self._connection, None
            aside, self._aside = self._aside, None
        if aside is not None:
            aside.close()
        if connection is not None:
            connection.store.close()

    def give_up(self) -> Connection | None:
        """Open nothing any more; return the connection, which the caller closes."""
        self._given_up.set()
        with self._lock:
            connection, self._connection = self._connection, None
            aside, self._aside = self._aside, None
        if aside is not None:
            aside.close()
        return connection

    @contextmanager
    def looking_elsewhere(self, leave: Callable[[], None]) -> Iterator[None]:
        """Look, while this node waits for others, whether they meet at another endpoint.

        If a round runs there and none does here, or the run has come further there, or as far at an
        endpoint that is named before this one, this connection is closed, and ``open`` goes there.
        It is not closed any more once the wait is over.

        Args:
            leave: Gives this node's seats up, before the connection is closed: a round may have
                begun with it that it has not heard of yet.
        """
        connection = self._connection
        if connection is None or connection.moves is None:
            yield
            return
        is_over, leaving = threading.Event(), threading.Lock()
        threading.Thread(
            target=self._scout,
            args=(connection, connection.moves, is_over, leaving, leave),
            name="elrun-scout",
            daemon=True,
        ).start()
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
        while not is_over.wait(_LOOK_ELSEWHERE_S):
            here = self._progress_at(connection.store)
            for place, store in moves.survey():
                there = self._progress_at(self._sign(store))
                store.close()
                if there == _NOWHERE or (there, -place) <= (here, -moves.at):
                    continue
                with leaving:
                    if not is_over.is_set():
                        moves.choose(place)
                        with suppress(RendezvousError):
                            leave()
                        connection.store.close()
                return

    def _progress_at(self, store: Store) -> tuple[bool, int]:
        """Return whether the run goes on in a store, or has ended there, and which round forms."""
        try:
            (record,) = store.get([self._run.record])
            if record is None:
                return _NOWHERE
            forming = read_forming(self._run.record, record)
            last = self._run.round(forming - 1)
            roster, verdict = store.get([last.roster, last.verdict])
            is_over = verdict is not None and not read_verdict(last.verdict, verdict).kind.ends_run
        except RendezvousError:
            return _NOWHERE
        return roster is not None and not is_over, forming

    def _signed(self, connection: Connection) -> Connection:
        open_aside = connection.open_aside
        return connection._replace(
            store=self._sign(connection.store),
            open_aside=open_aside and (lambda: self._sign(open_aside())),
        )

    def _sign(self, store: Store) -> Store:
        return store if self._secret is None else SignedStore(store, self._secret)

    def _closed(self) -> RendezvousClosedError:
        return RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
