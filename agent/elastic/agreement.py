"""The nodes of a failed job agree on one root cause, so that all of them print the same first line.

The verdict that ended the round names a failure, and that is the root cause if it is a cause and
says why. Otherwise somebody may know more once the workers have been stopped: the rank behind lost
connections may be on another node and may have ended a moment later, and a program's last words
may have been read a moment later. So one more value stands beside the verdict in the store. It is
written once: by the first node that knows a cause. The order of the writes decides, and no clock.

A node that knows no cause reports how its ranks ended and then reads the value. Group rank 0 has by
then waited for all these reports. A node writes a cause before it reports, so if there is no value
by then, no node knows a cause: group rank 0 writes what the verdict names. A node that has waited
for too long does the same, and so all nodes read one value in any case.
"""

from __future__ import annotations

from collections.abc import Callable

from ...rendezvous.api.handler import RoundHandler
from ...rendezvous.errors import RendezvousConnectionError
from ...rendezvous.logs import Log
from ..failures.report import RootCause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = Log(__name__)

CAUSE_TIMEOUT_S = 5.0
"""How long a node waits for the root cause that the nodes agree on."""


def is_final(named: RootCause) -> bool:
    """Return whether the root cause that the verdict names can't be replaced by a better one."""
    return _is_cause(named) and bool(named.words)


def proposal_of(named: RootCause, mine: RootCause | None, *, is_author: bool) -> RootCause | None:
    """Return the root cause that a node proposes to the others; None: it has none to propose.

    Args:
        named: The root cause that the verdict names.
        mine: The first failure of this node as it is known after the stop; None: there is none.
        is_author: Whether this node has written the verdict.
    """
    if mine is None or is_final(named):
        return None
    if _is_cause(named):  # without a word: the node that named it may have read one since
        return mine if is_author else None
    return mine if _is_cause(mine) else None


def _is_cause(root: RootCause) -> bool:
    """Return whether a worker failed, and not because another rank, or a store, had gone."""
    return root.global_rank >= 0 and not root.is_consequence


class Agreement:
    """How one node gets to the root cause that all nodes of the round print.

    Args:
        rounds: Carries the value.
        ask: Calls what asks the store, for a bounded time.
        named: The root cause that the verdict names.
        proposal: What this node knows better.
    """

    def __init__(
        self,
        rounds: RoundHandler,
        ask: Callable[[Callable[[], Any]], Any],
        named: RootCause,
        proposal: RootCause | None,
    ) -> None:
        self._rounds = rounds
        self._ask: Callable[[Callable[[], bytes | None]], bytes | None] = ask
        self._named = named
        self._is_settled = is_final(named)
        self.root = named
        """The root cause, as far as it is known by now."""
        if proposal is not None and not self._is_settled:
            self._settle(proposal)

    def finish(self, *, knows_all: bool) -> RootCause:
        """Return the root cause that stands, after this node has reported its ranks.

        Args:
            knows_all: Whether this node has waited for the reports of all others.
        """
        if not self._is_settled:
            standing = None
            if not knows_all:
                standing = self._try(lambda: self._rounds.await_cause(CAUSE_TIMEOUT_S))
            if standing is not None:
                self._take(standing)
            elif not self._is_settled:
                self._settle(self._named)
        return self.root

    def _settle(self, root: RootCause) -> None:
        """Write a root cause; take the one that stands."""
        import json  # few jobs fail like that

        self.root = root
        value = json.dumps(root.to_json()).encode()
        standing = self._try(lambda: self._rounds.settle_cause(value))
        if standing is not None:
            self._take(standing)

    def _take(self, standing: bytes) -> None:
        import json

        self._is_settled = True
        try:
            self.root = RootCause.from_json(json.loads(standing))
        except (ValueError, TypeError, RecursionError) as error:
            log.info("the root cause that another node has written can't be read: %s", error)

    def _try(self, question: Callable[[], bytes | None]) -> bytes | None:
        try:
            return self._ask(question)
        except RendezvousConnectionError as error:
            log.info("the nodes can't agree on the root cause: %s", error)
            self._is_settled = True  # each node prints what it knows
            return None
