"""The keys of a run and its rounds in the store, and the number at a counter's key."""

from __future__ import annotations

from ..named_tuple import NamedTuple

UNSURE_BEAT = b"?"
"""Read instead of a beat that a foreign process has overwritten: neither a beat nor silence."""

GONE_BEAT = b"gone"
"""Is read where the store has seen the connection of a node end: no further beat is waited for."""

FIRST_BEAT = b"0"
"""Written at the key of each member's beat with the roster, so that one call reads all beats."""

_LARGEST_COUNT = 1 << 53


class RoundKeys(NamedTuple):
    """The keys of one round."""

    prefix: str

    @property
    def seats(self) -> str:
        """Counter of the seats taken; at least ``round.DOOR`` once the round is closed."""
        return f"{self.prefix}/seats"

    @property
    def roster(self) -> str:
        """The members, written once."""
        return f"{self.prefix}/roster"

    @property
    def verdict(self) -> str:
        """How the round ended, written once."""
        return f"{self.prefix}/verdict"

    @property
    def cause(self) -> str:
        """Why the round failed, in the agents' own format, written once."""
        return f"{self.prefix}/cause"

    def success(self, group_rank: int) -> str:
        """Success mark of this member: all of its workers have succeeded."""
        return f"{self.prefix}/success/{group_rank}"

    def node(self, seat: int) -> str:
        """Record of the node on this seat, written by that node only."""
        return f"{self.prefix}/node/{seat}"

    def place(self, seat: int) -> str:
        """Place of the node on this seat; every node that writes it writes the same value."""
        return f"{self.prefix}/place/{seat}"

    def seat_beat(self, seat: int) -> str:
        """Beat of the node on this seat; changes while the node waits there."""
        return f"{self.prefix}/seat_beat/{seat}"

    def beat(self, group_rank: int) -> str:
        """Beat of this member; changes until the node takes its next seat."""
        return f"{self.prefix}/beat/{group_rank}"

    def outcome(self, group_rank: int) -> str:
        """How the workers of this member ended, in the agents' own format."""
        return f"{self.prefix}/outcome/{group_rank}"

    def gone(self, group_rank: int) -> str:
        """Mark of this member that it does not need the store any more."""
        return f"{self.prefix}/gone/{group_rank}"

    def left(self, seat: int) -> str:
        """Mark of the node on this seat that it has left, and does not need the store any more."""
        return f"{self.prefix}/left/{seat}"

    def notice(self, topic: str, number: int) -> str:
        """One notice of a topic, in the agents' own format, written once by any member."""
        return f"{self.prefix}/notice/{topic}/{number}"

    @property
    def shared(self) -> str:
        """Prefix of the keys that the agents of a round share beside the protocol."""
        return f"{self.prefix}/shared/"


class RunKeys(NamedTuple):
    """The keys of one run.

    Args:
        run_id: Any text; a slash in it cannot reach into another run's keys.
    """

    run_id: str

    @property
    def prefix(self) -> str:
        """The start of all keys of the run."""
        return "run/" + self.run_id.replace("%", "%25").replace("/", "%2F")

    @property
    def record(self) -> str:
        """The number of the round that forms; it may lag behind, and never runs ahead."""
        return f"{self.prefix}/round"

    def round(self, number: int) -> RoundKeys:
        """Return the keys of one round, by its number from 0."""
        return RoundKeys(f"{self.prefix}/round/{number}")


def is_beat(key: str) -> bool:
    """Return whether a key is a beat's."""
    return "/beat/" in key or "/seat_beat/" in key


def may_count(key: str) -> bool:
    """Return whether a key may be a counter's."""
    return key.endswith("/seats") or "/shared/" in key


def count_in(data: bytes | None) -> int:
    """Return the number at a counter's key.

    A missing value counts as 0, and so does a value that no counter of elrun's can have: every
    process that reaches the store can write to the key.
    """
    digits = b"" if data is None else data.removeprefix(b"-")
    if data is None or not digits.isdigit() or len(digits) > len(str(_LARGEST_COUNT)):
        return 0
    return int(data)
