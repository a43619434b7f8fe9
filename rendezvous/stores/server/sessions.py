"""What a store server knows of its clients across their connections.

A connection may break while both ends live: a router was restarted, a firewall has lost its table.
Then the client connects again within moments and goes on with its session: it repeats the requests
that were not answered, in their order. The server has numbered what it carried out, so it carries
nothing out twice: it answers a write once more as it did the first time.

A client that does not come back is gone. Its will (``stores/store.py``) is carried out after the
time that the client has set, and its session is forgotten some minutes later.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from itertools import count

from ..store import Will
from .table import TableError
from .wire import LeaveWill, size_of

Outcome = int | bytes | TableError | None
"""What a write was answered: a count, the value that stands, why it can't be done, or nothing."""

MOST_OUTCOMES = 256
"""Writes of one client that may be unanswered at a time, and still be answered after a break."""

_MOST_BROKEN = 16384
# Turns of the server's loop, after a will is due, in which the client may still be found waiting.
_LAST_LOOKS = 3
# Entries of clients that have come back, beside as many as are broken.
_MOST_LEFT_BEHIND = 1024

_MOST_OUTCOME_BYTES = 1 << 20
# So many are kept, however large: as many writes as the threads of an agent may have on their way.
_LEAST_OUTCOMES = 16

MOST_REMEMBERED_BYTES = 256 << 20
"""Bytes of the answers that are remembered for all clients."""

MOST_WILL_BYTES = 256 << 20


def _size_of(outcome: Outcome) -> int:
    return len(outcome) if isinstance(outcome, bytes) else 0


class Remembered:
    """Counts the bytes of the answers that are remembered for all clients.

    Each value counts once: all nodes that create a round's roster are answered with the same one.

    Attributes:
        size: The bytes of these values.
        will_bytes: The bytes of all wills.
    """

    def __init__(self) -> None:
        self.size = 0
        self.will_bytes = 0
        self._holders: dict[int, int] = {}

    def add(self, outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            holders = self._holders.get(id(outcome), 0)
            self._holders[id(outcome)] = holders + 1
            self.size += 0 if holders else len(outcome)

    def remove(self, outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            holders = self._holders.pop(id(outcome))
            if holders > 1:
                self._holders[id(outcome)] = holders - 1
            else:
                self.size -= len(outcome)


class Session:
    """One client.

    Args:
        name: What it calls its session; empty: it can't come back.
        remembered: Counts what is remembered for all clients.
    """

    def __init__(self, name: str, host: str, remembered: Remembered) -> None:
        self.name = name
        self.host = host
        self.client: int | None = None
        self.will: LeaveWill | None = None
        self.has_ended = False
        # While it has no connection: when its will is due, unless that was taken, and for how many
        # turns of the loop it has been; and when the session is to be forgotten.
        self.will_at: float | None = None
        self.looks = 0
        self.forget_at = 0.0
        self._remembered = remembered
        self._carried_out = -1
        self._outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self.outcome_bytes = 0
        """Bytes of the answers that are remembered for this client."""

    def leave_will(self, will: LeaveWill | None) -> None:
        """Replace the will; a client that has said goodbye has none.

        Raises:
            TableError: All wills together are too large; there is none now.
        """
        self._remembered.will_bytes -= 0 if self.will is None else size_of(self.will.will)
        self.will = None
        if will is not None and not self.has_ended:
            total = self._remembered.will_bytes + size_of(will.will)
            if total > MOST_WILL_BYTES:
                raise TableError(f"all wills together have at most {MOST_WILL_BYTES} bytes")
            self._remembered.will_bytes, self.will = total, will

    def is_repeated(self, number: int) -> bool:
        """Return whether a write was carried out before: the numbers of a client only grow."""
        return number <= self._carried_out

    def outcome_of(self, number: int) -> Outcome:
        """Return how a repeated write was answered."""
        return self._outcomes.get(number, TableError("the store forgot how that was answered"))

    def note(self, number: int, outcome: Outcome) -> None:
        """Take note of how a write was answered."""
        self._carried_out = max(self._carried_out, number)
        self._outcomes[number] = outcome
        self.outcome_bytes += _size_of(outcome)
        self._remembered.add(outcome)
        while len(self._outcomes) > MOST_OUTCOMES or (
            self.outcome_bytes > _MOST_OUTCOME_BYTES and len(self._outcomes) > _LEAST_OUTCOMES
        ):
            self._forget_oldest()

    def forget_outcomes(self) -> None:
        """Forget how writes were answered; they are not carried out again all the same."""
        while self._outcomes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        outcome = self._outcomes.popitem(last=False)[1]
        self.outcome_bytes -= _size_of(outcome)
        self._remembered.remove(outcome)


class Sessions:
    """The sessions of a server's clients."""

    def __init__(self, keeps_s: float, most_bytes: int = MOST_REMEMBERED_BYTES) -> None:
        self._keeps_s = keeps_s
        self._most_bytes = most_bytes
        self._remembered = Remembered()
        self._named: dict[str, Session] = {}
        # Those without a connection, each with the number of its entry below.
        self._broken: dict[Session, int] = {}
        # A heap, as thousands may be broken at once: when each is due, and a number. An entry stays
        # behind when its client comes back.
        self._dues: list[tuple[float, int, Session]] = []
        self._numbers = count()

    def find(self, name: str) -> Session | None:
        """Return the session of a client that comes back, if it is known."""
        return self._named.get(name)

    def begin(self, name: str, host: str) -> Session:
        session = Session(name, host, self._remembered)
        if name:
            self._named[name] = session
        return session

    def connect(self, session: Session, client: int) -> None:
        """Take note of a session's connection; ``client`` is its number."""
        session.client = client
        self._broken.pop(session, None)

    def bound(self, session: Session) -> None:
        """Bound what is remembered for all: the client with the most is remembered nothing."""
        if session.has_ended or not session.name:  # it can't come back
            session.forget_outcomes()
        if self._remembered.size > self._most_bytes:
            max(self._named.values(), key=lambda each: each.outcome_bytes).forget_outcomes()

    def end(self, session: Session) -> None:
        """Forget a session; its client has left, or has been away for too long."""
        session.has_ended = True
        session.leave_will(None)
        session.forget_outcomes()
        self._broken.pop(session, None)
        if self._named.get(session.name) is session:
            del self._named[session.name]

    def break_off(self, session: Session, now: float) -> None:
        """Take note that a session has no connection any more."""
        session.client = None
        if session.has_ended:
            return
        if len(self._broken) >= _MOST_BROKEN:
            oldest = next(iter(self._broken))
            self.end(oldest)
        will = session.will
        after_s = will.after_ms / 1000 if will is not None and session.name else 0.0
        keeps_s = max(after_s, self._keeps_s) if session.name else after_s
        session.will_at = None if will is None else now + after_s
        session.looks, session.forget_at = 0, now + keeps_s
        if len(self._dues) > 2 * len(self._broken) + _MOST_LEFT_BEHIND:
            self._dues = [entry for entry in self._dues if self._is_current(entry)]
            heapq.heapify(self._dues)
        self._expect(session)

    def changes_in_s(self, now: float) -> float | None:
        """Return the seconds until a will is due, or a session to be forgotten."""
        while self._dues and not self._is_current(self._dues[0]):
            heapq.heappop(self._dues)
        return max(0.0, self._dues[0][0] - now) if self._dues else None

    def take_due_wills(self, now: float) -> list[Will]:
        """Return the wills to be carried out now; forget the sessions whose time is over.

        A will is due only after some more turns of the loop: if this process itself stood still,
        its client may have come back, and wait to be heard.
        """
        due = []
        while self._dues and self._dues[0][0] <= now:
            due.append(heapq.heappop(self._dues))
        wills = []
        for _, _, session in filter(self._is_current, due):
            if session.will_at is not None:
                session.looks += 1
                if session.looks > _LAST_LOOKS or not session.name:
                    session.will_at = None
                    wills += [] if session.will is None else [session.will.will]
                    session.leave_will(None)
            if session.will_at is None and now >= session.forget_at:
                self.end(session)
            else:
                self._expect(session)
        return wills

    def _is_current(self, entry: tuple[float, int, Session]) -> bool:
        return self._broken.get(entry[2]) == entry[1]

    def _expect(self, session: Session) -> None:
        due_at = session.forget_at if session.will_at is None else session.will_at
        number = next(self._numbers)
        # Its place among the broken stays: the one that broke first is first.
        self._broken[session] = number
        heapq.heappush(self._dues, (due_at, number, session))
