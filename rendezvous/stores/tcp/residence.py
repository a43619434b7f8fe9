"""Whose store it is that a node finds at an endpoint: it ends with the run whose node hosts it.

So another run must not settle in it, though its keys would not be in the way. It waits until the
store has gone, or its people give it an endpoint of its own.
"""

from __future__ import annotations

import threading

from ..notify import Told, tell
from ..store import Store

_RESIDENT = "elrun/resident"
_NEVER_WRITTEN = "elrun/never"
_LONGEST_NAME = 512
# The host writes its name as the first thing after the store listens.
_MOVES_IN_S = 2.0


def move_in(store: Store, run_id: str) -> None:
    """Say whose store this is, as the node that hosts it."""
    store.set({_RESIDENT: _name(run_id)})


def stranger_in(store: Store, run_id: str) -> str | None:
    """Return the name of the run that a store belongs to, unless it is this one.

    Args:
        store: The store.
        run_id: The run of the node that asks.
    """
    (found,) = store.get([_RESIDENT])
    if found is None:
        (found,) = store.wait([_RESIDENT], _MOVES_IN_S) or (None,)
    if found is None or found == _name(run_id):
        return None
    return found[:_LONGEST_NAME].decode(errors="replace")


class Neighbour:
    """The store of another run, for as long as it is there.

    Args:
        store: A connection to it.
        name: The run's name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._is_gone = threading.Event()
        self.words = (
            f"it is the store of run {name!r}, and ends with that run; wait for its end, or give "
            "this job an endpoint of its own (another port in --rdzv-endpoint)"
        )
        """What to tell people."""
        tell(store, _NEVER_WRITTEN, self._hear)

    @property
    def is_there(self) -> bool:
        """Whether it has not been lost yet."""
        return not self._is_gone.is_set()

    def _hear(self, _: Told) -> None:
        self._is_gone.set()

    def leave(self) -> None:
        """Release the connection."""
        self._store.close()


def _name(run_id: str) -> bytes:
    return run_id.encode(errors="surrogateescape")[:_LONGEST_NAME]
