"""Agrees with the other nodes whether a job hangs: only if no rank of any node goes on.

Each node counts itself in when its ranks have been still for long enough, and out when one of them
goes on. When all are counted in, each node looks once more; its ranks may have gone on since it was
counted. If no count has changed by then, group rank 0 names the rank that is somewhere else than
the others. The node of that rank reports the failure, which ends the round for all nodes. All that
is written belongs to one state of the count: a decision is void as soon as a node counts itself
out.
"""

from __future__ import annotations

import json
from typing import Any

from ...rendezvous.errors import RendezvousError
from ...rendezvous.named_tuple import NamedTuple
from ...rendezvous.threads import Call, NoThreadError
from ..failures.stack_places import Oddness, Standing, doubt_about, folded_clauses, odd_ones
from ..json_objects import object_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_STILL, _BEATING, _DECISION = "hang/still", "hang/beating", "hang/decision"
_MOST_TEXT = 2_000

_CHANGE = 1 << 32
"""What each change adds to the count of the nodes that are still: no two states are equal."""


class Answer(NamedTuple):
    """What a node knows of the others.

    Args:
        others_beat: Whether workers of any node send beats, so that these are the only sign.
        odd: The rank that is somewhere else, once all nodes are still; -1 before.
        text: Where all ranks are.
    """

    others_beat: bool = False
    odd: int = -1
    text: str = ""


def decision_about(standings: Mapping[int, Standing]) -> Answer:
    """Return which rank is somewhere else, and where all are; without ranks there is no answer.

    Args:
        standings: What is known of each rank.
    """
    if not standings:
        return Answer()
    odd, *_ = suspects = odd_ones(standings)
    text = folded_clauses({rank: each.clause for rank, each in standings.items()})
    if text.endswith("…"):  # it is cut, perhaps before this rank: they are at very many places
        text = f"{folded_clauses({odd: standings[odd].clause})}; {text}"
    doubt = doubt_about(suspects, len(standings))
    return Answer(odd=odd, text="; ".join(filter(None, (text, doubt))))


class Votes:
    """One node's part in one attempt.

    Args:
        store: What the nodes of the round share, with the methods of torch's store.
        nodes: How many there are.
        wake: Called, from a thread, when an answer has come.
    """

    def __init__(self, store: Any, group_rank: int, nodes: int, wake: Callable[[], None]) -> None:
        self._store = store
        self._group_rank = group_rank
        self._nodes = nodes
        self._wake = wake
        self._is_counted = False
        self._is_beating = False
        self._seen = self._answered = 0
        self._call: Call[Answer] | None = None

    def ask(self, standings: Mapping[int, Standing] | None, *, is_beating: bool) -> None:
        """Tell the other nodes how this one stands; a thread does it, if none is at it already.

        Args:
            standings: Where this node's ranks are, if they have been still for long enough.
            is_beating: Whether its workers send beats.
        """
        if self._call is not None:
            return
        try:
            self._call = Call(
                lambda: self._exchange(standings, is_beating=is_beating),
                "elrun-hang",
                self._wake,
                or_here=False,
            )
        except NoThreadError:  # the next look asks again
            return

    def take(self) -> Answer:
        """Return the answer to the last question, once, if it has come."""
        if self._call is None or not self._call.is_done:
            return Answer()
        call, self._call = self._call, None
        try:
            return call.result()
        except (
            *(RendezvousError, ValueError, KeyError, TypeError),
            *(OverflowError, RecursionError),
        ):
            return Answer()  # the loop finds out whether the store is lost

    def _exchange(self, standings: Mapping[int, Standing] | None, *, is_beating: bool) -> Answer:
        store = self._store
        beating = store.add(_BEATING, int(is_beating and not self._is_beating))
        self._is_beating = is_beating
        is_still = standings is not None
        change = int(is_still) - int(self._is_counted)
        state = store.add(_STILL, change and _CHANGE + change)
        self._is_counted = is_still
        seen, self._seen = self._seen, state
        if state % _CHANGE < self._nodes or state == self._answered or state != seen:
            return Answer(beating > 0)
        store.set(_places_of(self._group_rank, state), json.dumps(standings))
        decision = self._decision_in(state)
        if decision is None:
            return Answer(beating > 0)
        self._answered = state
        odd, text = json.loads(decision)
        return Answer(beating > 0, int(odd), str(text))

    def _decision_in(self, state: int) -> str | bytes | None:
        """Return the decision about a state of the count; group rank 0 makes it, if all agree."""
        store, key = self._store, f"{_DECISION}/{state}"
        if store.check([key]):
            return store.get(key)  # type: ignore[no-any-return]
        keys = [_places_of(rank, state) for rank in range(self._nodes)]
        if self._group_rank != 0 or not store.check(keys):
            return None
        standings: dict[int, Standing] = {}
        for text in store.multi_get(keys):
            for rank, (clause, oddness) in object_in(text).items():
                standings[int(rank)] = Standing(str(clause), Oddness(oddness))
        decision = decision_about(standings)
        made = json.dumps([decision.odd, decision.text[:_MOST_TEXT]])
        store.set(key, made)
        return made


def _places_of(group_rank: int, state: int) -> str:
    return f"hang/places/{state}/{group_rank}"
