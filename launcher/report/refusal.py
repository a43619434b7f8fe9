"""Why a verb can't do what it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ...rendezvous.errors import ElrunError

NOTHING_THERE, UNCLEAR = 1, 2
"""Exit codes: there is no such run, or nobody answers; it is not clear which run is meant."""


class VerbRefusal(ElrunError):
    """A verb can't do what it was asked for.

    Args:
        message: Why, and what to do.
        exit_code: What the command ends with.
        below: What there is instead, a line each.
    """

    def __init__(
        self, message: str, exit_code: int = NOTHING_THERE, below: Sequence[str] = ()
    ) -> None:
        super().__init__("; ".join([message, *map(str.strip, below)]))
        self.exit_code = exit_code
        self.lines = [message, *below]
