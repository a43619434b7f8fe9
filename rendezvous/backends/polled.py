"""Gives a handler that was written for torchrun the verdicts that elrun's agent lives by.

Such a handler can say how many nodes are waiting, and no more. So every agent judges for itself:
a failure restarts this node's workers, and the others notice by their own workers' failures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from .. import errors
from ..api.handler import (
    NodeProfile,
    RendezvousHandler,
    RendezvousInfo,
    RoundHandler,
    Verdict,
    VerdictKind,
)
from ..errors import RendezvousConnectionError, RendezvousError
from ..threads import start_daemon

_ARRIVED_KEY = "elrun/arrived"
_ALL_ARRIVED_KEY = "elrun/all_arrived"


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    """Raise elrun's error of the same name for one of torch's, whose classes are not imported."""
    try:
        yield
    except RendezvousError:
        raise
    except Exception as error:
        names = [each.__name__ for each in type(error).__mro__]
        ours = [
            vars(errors)[name]
            for name in names
            if name.startswith("Rendezvous") and name in vars(errors)
        ]
        if not ours:
            raise
        raise ours[0](str(error) or type(error).__name__) from error


class PolledRounds(RoundHandler):
    """A ``RoundHandler`` over any ``RendezvousHandler``; its verdicts are this node's own."""

    def __init__(self, handler: RendezvousHandler) -> None:
        self._handler = handler
        self._info: RendezvousInfo | None = None
        self._verdict: Verdict | None = None
        self._wake: Callable[[], None] = lambda: None

    def get_backend(self) -> str:
        return self._handler.get_backend()

    @property
    def use_agent_store(self) -> bool:
        return self._handler.use_agent_store

    def next_rendezvous(self) -> RendezvousInfo:
        self._verdict = None
        with _our_errors():
            theirs = self._handler.next_rendezvous()
        # Theirs may be torch's class, which knows no placement.
        self._info = RendezvousInfo(
            theirs.store, theirs.rank, theirs.world_size, theirs.bootstrap_store_info
        )
        return self._info

    def is_closed(self) -> bool:
        with _our_errors():
            return self._handler.is_closed()

    def set_closed(self) -> None:
        with _our_errors():
            self._handler.set_closed()

    def num_nodes_waiting(self) -> int:
        with _our_errors():
            return self._handler.num_nodes_waiting()

    def get_run_id(self) -> str:
        return self._handler.get_run_id()

    def shutdown(self) -> bool:
        with _our_errors():
            return self._handler.shutdown()

    @property
    def has_to_be_asked(self) -> bool:
        return True

    def describe_wait(self) -> str:
        return f"the {self.get_backend()} rendezvous does not tell who is there"

    def describe(self, profile: NodeProfile) -> None:
        """Do nothing: the agents exchange profiles through the round's store."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def verdict(self) -> Verdict | None:
        return self._verdict

    def look_for_waiting_nodes(self) -> None:
        if self._verdict is None and self.num_nodes_waiting() > 0:
            self._verdict = Verdict(VerdictKind.NODE_WAITING, reason="nodes are waiting to join")

    def conclude(self, verdict: Verdict) -> Verdict:
        if self._verdict is None:
            self._verdict = verdict
        return self._verdict

    def arrive(self) -> None:
        info = self._info
        if info is None:
            return
        store = info.store
        try:
            are_all_here = store.add(_ARRIVED_KEY, 1) >= info.world_size
            if are_all_here:
                store.set(_ALL_ARRIVED_KEY, b"1")
        except Exception as error:  # a foreign store's
            raise RendezvousConnectionError(f"the store was lost: {error}") from error
        if are_all_here:
            self.conclude(Verdict(VerdictKind.DONE))
            return
        start_daemon(self._await_others, "elrun-barrier", info)

    def publish(self, outcome: bytes) -> None:
        """Do nothing: there is no agreed place for it."""

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        return ()

    def _await_others(self, info: RendezvousInfo) -> None:
        try:
            info.store.get(_ALL_ARRIVED_KEY)
        except Exception:  # noqa: BLE001  a foreign store's; the agent's own time-out ends the wait
            return
        if self._info is info:  # else a later round runs, whose end this is not
            self.conclude(Verdict(VerdictKind.DONE))
            self._wake()
