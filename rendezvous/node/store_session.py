"""One node's connection to the store of its run: opened when needed, and again after a loss.

A fresh connection begins with the run's own record (``enter_run``), which has the number of the
round that forms. The record also shows the version of the run's protocol, and, by its signature,
the run's secret. A node whose version or secret differs is refused with an error before it has
written anything to a round.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..errors import RendezvousClosedError, RendezvousError, RendezvousStateError
from ..protocol.keys import RunKeys
from ..protocol.wire import is_forming, read_forming, read_verdict, write_forming
from ..stores.server.guard import NO_SECRET_HERE, OTHER_SECRET, SECRET_WANTED, explained
from ..stores.server.hello import Refusal
from ..stores.signed import Secret, is_signed
from ..stores.steps import CHOOSE, CONNECT, SURVEY, Asking, Reached, Request, Steps, sleep

_MOST_FOREIGN_RECORDS = 16
_NO_RUN = (False, -1)


def enter_run(store: Asking, run: RunKeys, secret: Secret | None, forming: int = 0) -> Steps[int]:
    """Create the run's record, or check that this node fits the record that stands.

    Args:
        store: The unsigned store, since a signed one hides the records of other secrets.
        forming: The number to write if the run has no record yet.

    Returns:
        The number of the round that forms.

    Raises:
        RendezvousStateError: The run has another secret, or another version of the protocol.
    """
    key = run.record
    first = write_forming(forming)
    mine = first if secret is None else secret.sign(key, first)
    standing: bytes = yield store.create(key, mine)
    for _ in range(_MOST_FOREIGN_RECORDS):
        if secret is None or is_signed(standing) or is_forming(standing):
            break
        standing = yield store.create(key, mine, standing)  # no record of elrun's: replace it
    record = standing if secret is None else secret.verify(key, standing)
    if record is None or (secret is None and is_signed(standing)):
        kind = OTHER_SECRET if is_signed(standing) else NO_SECRET_HERE
        refusal = Refusal(SECRET_WANTED if secret is None else kind, "")
        raise RendezvousStateError(explained(refusal, run.run_id).reason)
    return read_forming(key, record)


class StoreSession:
    """Opens and closes the connection of one node to its store."""

    def __init__(self, run: RunKeys, has_left: Callable[[], bool]) -> None:
        self._run = run
        self._has_left = has_left
        self.connection: Reached | None = None
        """The connection; None before the first ``open`` and after a loss."""

    @property
    def can_move(self) -> bool:
        """Whether the run has another endpoint to go on at."""
        return self.connection is not None and self.connection.at is not None

    def open(self, forming: int = 0) -> Steps[Reached]:
        """Return the connection; reach the store first if there is none.

        Args:
            forming: The round to begin with in a store that knows nothing of the run.
        """
        if self.connection is None:
            reached: Reached = yield Request(None, CONNECT, (forming,))
            if self._has_left():
                yield Asking(reached.store).close()
                raise self._closed()
            self.connection = reached
        return self.connection

    def store(self) -> Asking:
        """Return the store.

        Raises:
            RendezvousClosedError: This node is not connected.
        """
        if self.connection is None:
            raise self._closed()
        return Asking(self.connection.store)

    def disconnect(self) -> Steps[None]:
        """Close the connection to a store that was lost; ``open`` then connects again."""
        connection, self.connection = self.connection, None
        if connection is not None:
            yield Asking(connection.store).close()

    def _closed(self) -> RendezvousClosedError:
        return RendezvousClosedError(f"this node has left run {self._run.run_id!r}")


class Scout:
    """Looks at the other endpoints while this node waits in a forming round.

    If the run has come further at another endpoint, the connection is closed, so that the wait
    ends with a connection error, and ``StoreSession.open`` connects there. The run has come further
    if a round runs there and none runs here. Where that is the same, the higher number of the
    forming round decides; where that is the same, too, the order of the endpoints.

    Args:
        scout_s: Time between two looks.
        leave: Gives up this node's seats, before the connection is closed: a round may have begun
            with this node before it has heard of that.
    """

    def __init__(
        self,
        run: RunKeys,
        connection: Reached,
        scout_s: float,
        leave: Callable[[], Steps[None]],
    ) -> None:
        self._run = run
        self._connection = connection
        self._scout_s = scout_s
        self._leave = leave
        self.is_over = False
        """Set when the wait has ended: then the connection is not closed any more."""
        self.is_leaving = False
        """Whether this node goes to another endpoint; then the end of its wait does not count."""

    def watch(self) -> Steps[None]:
        """Look again and again, until the wait is over or the node goes to another endpoint."""
        while not self.is_over and not self.is_leaving:
            yield sleep(self._scout_s)
            if not self.is_over:
                yield from self._look()

    def _look(self) -> Steps[None]:
        here = yield from self._progress_at(Asking(self._connection.store))
        found: list[tuple[int, object]] = yield Request(None, SURVEY, ())
        for place, store in found:
            there = yield from self._progress_at(Asking(store))
            yield Asking(store).close()
            is_further = (there, -place) > (here, -(self._connection.at or 0))
            if there == _NO_RUN or not is_further or self.is_over or self.is_leaving:
                continue
            self.is_leaving = True
            yield Request(None, CHOOSE, (place,))
            with suppress(RendezvousError):
                yield from self._leave()
            yield Asking(self._connection.store).close()

    def _progress_at(self, store: Asking) -> Steps[tuple[bool, int]]:
        """Return whether a round runs in a store, or the run has ended there; and which forms."""
        try:
            (record,) = yield store.get([self._run.record])
            if record is None:
                return _NO_RUN
            forming = read_forming(self._run.record, record)
            last = self._run.round(forming - 1)
            roster, verdict = yield store.get([last.roster, last.verdict])
            is_over = verdict is not None and not read_verdict(last.verdict, verdict).kind.ends_run
        except RendezvousError:
            return _NO_RUN
        return roster is not None and not is_over, forming
