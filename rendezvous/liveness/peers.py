"""Whether the peers of a node are alive: for a waiting node, for the sealer, and before a failure.

``PeerMonitor`` is for a node that waits and needs only one of several peers to be alive.
``check_presence`` is for the node that seals a forming round. ``await_signs_of_life`` is for a
member whose workers have failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..api.handler import Placement
from ..named_tuple import NamedTuple
from ..protocol.keys import UNSURE_BEAT, RoundKeys, RunKeys
from ..protocol.records import History, Node
from ..protocol.round import missing_survivors
from ..protocol.timing import Timing
from ..stores.steps import Asking, Steps
from .heartbeat import Heartbeat

# Intervals between two reads of the beats: with a little more than one, a beat that is a little
# late costs no third read.
_INTERVALS_A_READ = 1.2


class PeerMonitor:
    """Watches the first of several beats, and all of them once the first is silent.

    So hundreds of nodes can wait for the same peers and read one beat each.

    Args:
        heartbeat: The heartbeat of the waiting node; it watches nothing else meanwhile.
        keys: The keys of the peers' beats, at least one. Lazy: a list of all keys for each of N
            deputies would be O(N²).
    """

    def __init__(self, heartbeat: Heartbeat, keys: Iterable[str]) -> None:
        self._heartbeat = heartbeat
        self._further_keys = iter(keys)
        self._watched: tuple[str, ...] = (next(self._further_keys),)
        heartbeat.watch(self._watched)

    def are_all_silent(self) -> bool:
        """Return whether no peer is alive; call this again and again while the node waits."""
        if len(self._heartbeat.silent()) < len(self._watched):
            return False
        further = tuple(self._further_keys)
        if further:
            self._watched += further
            self._heartbeat.watch(self._watched)
        return not further


class Presence(NamedTuple):
    """The records of a forming round, corrected by what the beats say.

    Args:
        seated: The records by seat; the record of a silent node is marked as withdrawn.
        history: The round before; its members that are silent and have not come back are lost.
        may_change_soon: Whether a beat, or the lack of one, may soon change this.
    """

    seated: Mapping[int, Node]
    history: History | None
    may_change_soon: bool


def check_presence(
    heartbeat: Heartbeat,
    run: RunKeys,
    number: int,
    seat: int,
    seated: Mapping[int, Node],
    history: History | None,
) -> Presence:
    """Return which nodes of a forming round are alive; watch all others that it waits for."""
    keys = run.round(number)
    others = {
        keys.seat_beat(each): each
        for each, node in seated.items()
        if each != seat and not node.is_withdrawn
    }
    missing: dict[str, int] = {}
    if history is not None:
        before = run.round(history.roster.round)
        missing = {before.beat(rank): rank for rank in missing_survivors(seated, history)}
    heartbeat.watch([*others, *missing])
    silent = heartbeat.silent()
    dead = {
        others[key]: seated[others[key]]._replace(is_withdrawn=True) for key in silent & set(others)
    }
    lost = [missing[key] for key in silent & set(missing)]
    if history is not None and lost:
        lost = [*history.verdict.lost, *sorted(lost)]
        history = history._replace(verdict=history.verdict._replace(lost=tuple(lost)))
    may_change_soon = bool(dead or missing.keys() - silent)
    return Presence({**seated, **dead}, history, may_change_soon)


def await_signs_of_life(
    store: Asking,
    keys: RoundKeys,
    place: Placement,
    timing: Timing,
    clock: Callable[[], float],
) -> Steps[None]:
    """Return when every other member has beaten, or the round has a verdict, or the patience ends.

    When a node dies, the workers of the others fail at once; that the node is lost is known two
    seconds later. If a failure of a worker became the verdict first, and no restart were left, the
    loss of a node would end the job, although the other nodes could go on without it. So a node
    calls this before it reports such a failure. Either every other member gives a sign of life,
    which takes one heartbeat, or a member is found to be lost, and that becomes the verdict.
    """
    others = [keys.beat(rank) for rank in range(place.group_world_size) if rank != place.group_rank]
    found = yield store.get(others)
    unheard = dict(zip(others, found, strict=True))
    deadline = clock() + timing.patience_s + timing.heartbeat_s
    while unheard and clock() < deadline:
        verdict = yield store.wait([keys.verdict], _INTERVALS_A_READ * timing.heartbeat_s)
        if verdict is not None:
            return
        beats = yield store.get(list(unheard))
        unheard = {
            key: before
            for (key, before), beat in zip(unheard.items(), beats, strict=True)
            if beat in (before, UNSURE_BEAT)
        }
