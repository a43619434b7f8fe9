"""The names under which a run's rounds lie in the store."""

from __future__ import annotations

from dataclasses import dataclass

UNSURE_BEAT = b"?"
"""What is read where somebody has written over a beat: neither a sign of life nor silence."""

FIRST_BEAT = b"0"
"""Stands at the key of each beat from the start, so that all can be read in one call."""


@dataclass(frozen=True, slots=True)
class RoundKeys:
    """The keys of one round.

    Args:
        prefix: What they all begin with.
    """

    prefix: str

    @property
    def seats(self) -> str:
        """Counter of the seats taken; more than ``round.DOOR`` once the door is shut."""
        return f"{self.prefix}/seats"

    @property
    def roster(self) -> str:
        """Who takes part, written once."""
        return f"{self.prefix}/roster"

    @property
    def verdict(self) -> str:
        """How the round ended, written once."""
        return f"{self.prefix}/verdict"

    def success(self, group_rank: int) -> str:
        """Mark of this member that its workers all succeeded."""
        return f"{self.prefix}/success/{group_rank}"

    def node(self, seat: int) -> str:
        """Record of the node on this seat, written by that node only."""
        return f"{self.prefix}/node/{seat}"

    def place(self, seat: int) -> str:
        """What became of the node on this seat; the same whoever writes it."""
        return f"{self.prefix}/place/{seat}"

    def seat_beat(self, seat: int) -> str:
        """Sign of life of the node on this seat; changes for as long as that waits there."""
        return f"{self.prefix}/seat_beat/{seat}"

    def beat(self, group_rank: int) -> str:
        """Sign of life of this member; changes until that takes its next seat."""
        return f"{self.prefix}/beat/{group_rank}"

    def outcome(self, group_rank: int) -> str:
        """How the workers of this node ended, in its agent's own format."""
        return f"{self.prefix}/outcome/{group_rank}"

    def gone(self, group_rank: int) -> str:
        """Mark of this member that it needs the store no more."""
        return f"{self.prefix}/gone/{group_rank}"

    def left(self, seat: int) -> str:
        """Mark of the node on this seat, no member, that it needs the store no more."""
        return f"{self.prefix}/left/{seat}"

    @property
    def shared(self) -> str:
        """Prefix of what the round's agents tell each other beside the protocol."""
        return f"{self.prefix}/shared/"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run.

    Args:
        run_id: Any text; a slash in it cannot reach into another run's keys.
    """

    run_id: str

    @property
    def prefix(self) -> str:
        """What all keys of the run begin with."""
        return "run/" + self.run_id.replace("%", "%25").replace("/", "%2F")

    @property
    def record(self) -> str:
        """Which round is forming: it may lag behind, and never runs ahead."""
        return f"{self.prefix}/round"

    def round(self, number: int) -> RoundKeys:
        """Return the keys of one round, by its number from 0."""
        return RoundKeys(f"{self.prefix}/round/{number}")


def is_beat(key: str) -> bool:
    """Return whether a sign of life stands at a key."""
    return "/beat/" in key or "/seat_beat/" in key


def may_count(key: str) -> bool:
    """Return whether what stands at a key may be a number that nodes add to."""
    return key.endswith("/seats") or "/shared/" in key
