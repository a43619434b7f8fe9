"""Passes signals on to the workers of all nodes, while the job goes on: "save now" (SIGUSR1).

SLURM sends the signal to every process of a step, and so to the workers themselves; Kubernetes and
``kill`` send it to elrun alone. A worker that got it twice might save twice. The guardian is a
process that nobody would signal by itself, so it is the witness: if it got the signal, all did.

The agent announces the signal to the other agents of the round (``signal_echoes.py`` says which
signals are the same one).
"""

from __future__ import annotations

import collections
import json
import os
import signal
import time

from ...rendezvous.errors import RendezvousError
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ...rendezvous.threads import Call, NoThreadError
from ..json_objects import object_in
from ..processes.companion import Companion, Trouble, Wakes
from .signal_echoes import HOLD_S, SignalEchoes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ...rendezvous.api.handler import RendezvousInfo, RoundHandler
    from ..processes.context import PContext
    from ..processes.guardian import Guardian

log = Log(__name__)

WITNESS_S = 0.5
"""How long after elrun its guardian may get a signal that was sent to all processes."""

WITNESS_FIRST_S = 2.0
"""How long before elrun its guardian may get it: that delays nothing, so it may be longer."""

_LOOK_AGAIN_S = 0.01


class _Witness(NamedTuple):
    """The guardian got a signal at a time; that of elrun may come so many seconds later."""

    number: int
    at: float
    first_s: float = WITNESS_FIRST_S


class _Held(NamedTuple):
    """A signal of another node's that SLURM may bring to the workers of this node by itself."""

    signal: signal.Signals
    node: str
    due_at: float


class SignalForwarder(Companion):
    """Sends workers what this process is sent, and what agents of other nodes announce.

    Args:
        take: Returns, once, the signals that have come, and when by the clock.
        rounds: Carries the announcements.
        wake: Wakes the agent's loop, from any thread.
        clock: A monotonic clock, in seconds.
        to_group: Whether what workers have started gets the signals as well.
    """

    def __init__(
        self,
        signals: Sequence[signal.Signals],
        take: Callable[[], Sequence[tuple[signal.Signals, float]]],
        guardian: Guardian,
        rounds: RoundHandler,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        to_group: bool = False,
    ) -> None:
        self._take = take
        self._guardian = guardian
        self._rounds = rounds
        self._wake = wake
        self._clock = clock
        self._to_group = to_group
        self._came: list[tuple[signal.Signals, float]] = []
        self._witnessed: list[_Witness] = []
        self._workers: PContext | None = None
        self._has_peers = False
        self._echoes = SignalEchoes()
        self._held: list[_Held] = []
        self._announced: collections.deque[tuple[signal.Signals, int, bytes]] = collections.deque()
        rounds.listen([str(int(number)) for number in signals], self._hear)

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Take note whether the round has other nodes."""
        self._has_peers = info is not None and info.placement is not None and info.world_size > 1

    def begin_attempt(self, workers: PContext) -> None:
        """Take note of the workers that signals are for."""
        self._workers = workers

    def wakes(self) -> Wakes:
        """Return when a signal that has come is to be passed on."""
        due_at = [at + WITNESS_S for _, at in self._came] + [each.due_at for each in self._held]
        within_s = max(_LOOK_AGAIN_S, min(due_at) - self._clock()) if due_at else None
        return Wakes({self._guardian.witness_fd} - {-1}, within_s)

    def tick(self) -> Trouble | None:
        """Pass on what nobody else has brought to the workers."""
        now = self._clock()
        self._witnessed += [_Witness(number, now) for number in self._guardian.take_witnessed()]
        came, self._came = [*self._came, *self._take()], []
        witnessed = set()
        for number, at in came:
            if self._is_witnessed(number, at):
                witnessed.add(number)
                self._receive(number, has_come_to_all=True)
            elif now - at < WITNESS_S or self._guardian.has_pending(number):
                self._came.append((number, at))
            else:
                self._receive(number, has_come_to_all=False)
        self._doubt_witnesses(witnessed - {number for number, _ in self._came}, now)
        while self._announced:
            self._learn(*self._announced.popleft())
        for held in [each for each in self._held if each.due_at <= now]:
            self._held.remove(held)
            self._pass_on(held.signal, held.node)
        return None

    def end_attempt(self) -> None:
        """Forget the workers, which are being stopped, and what was announced in their round."""
        self._workers = None
        self._has_peers = False
        self._echoes = SignalEchoes()
        self._held.clear()
        self._announced.clear()

    def _is_witnessed(self, number: int, at: float) -> bool:
        """Return, once for each signal, whether the guardian got it at that time, too."""
        for each in self._witnessed:
            if each.number == number and -each.first_s <= each.at - at <= 2 * WITNESS_S:
                self._witnessed.remove(each)
                return True
        return False

    def _doubt_witnesses(self, numbers: Collection[int], now: float) -> None:
        """Shorten for how long what is left over of the guardian's signals vouches for another one.

        What is too old to vouch for any signal is forgotten.

        The kernel keeps one signal of a kind, so that of two that follow each other at once, one
        process may get both, and the other one. What is left over would vouch for the next one. Or
        this process gets the second one a moment later, and the workers have it already. The two
        look alike: a signal that comes to this process alone within ``WITNESS_S`` of two that came
        to all as one is passed to nobody, since a worker that saves once is better than twice.

        Args:
            numbers: The signals of which this process has got all that it has got yet.
        """
        self._witnessed = [
            each._replace(first_s=WITNESS_S) if each.number in numbers else each
            for each in self._witnessed
            if now - each.at <= each.first_s
        ]

    def _receive(self, number: signal.Signals, *, has_come_to_all: bool) -> None:
        """Pass on a signal that this process got, unless the workers have it."""
        count = self._echoes.receive(number, self._clock())
        held = next((each for each in self._held if each.signal is number), None)
        if held is not None:
            self._held.remove(held)
        if has_come_to_all:
            log.warning("%s came to all processes of this node, workers too", number.name)
        elif count is not None or held is not None:
            self._pass_on(number)
        if count is not None and self._has_peers:
            self._announce(number, count, has_come_to_all=has_come_to_all)

    def _learn(self, number: signal.Signals, count: int, notice: bytes) -> None:
        """Pass on a signal that another node got, unless the workers of this node have it."""
        if not self._echoes.learn(number, count, self._clock()):
            return
        try:
            found = object_in(notice)
            node, is_for_all = str(found["node"]), bool(found["to_all"])
        except (ValueError, KeyError):
            log.info("another node's notice of %s is not understood", number.name)
            return
        if is_for_all:
            self._held.append(_Held(number, node, self._clock() + HOLD_S))
        else:
            self._pass_on(number, node)

    def _pass_on(self, number: signal.Signals, node: str = "") -> None:
        origin = f"{number.name} came to {node}: it" if node else number.name
        workers, to_group = self._workers, self._to_group
        count = 0 if workers is None else workers.signal_workers(number, to_group=to_group)
        if not count:
            came = origin if node else f"{number.name} came"
            log.warning("%s while no worker of this node runs: nobody gets it", came)
            return
        noun = "worker" if count == 1 else "workers"
        log.warning("%s is passed on to %d %s; the job goes on", origin, count, noun)

    def _announce(self, number: signal.Signals, count: int, *, has_come_to_all: bool) -> None:
        about = {"version": 1, "node": os.uname().nodename, "to_all": has_come_to_all}
        notice = json.dumps(about).encode()

        def announce() -> None:
            try:
                self._rounds.announce(str(int(number)), count, notice)
            except RendezvousError as error:
                log.info("the other nodes do not hear of %s: %s", number.name, error)

        try:
            Call(announce, "elrun-signal", or_here=False)
        except NoThreadError as error:
            log.info("the other nodes do not hear of %s: %s", number.name, error.strerror)

    def _hear(self, topic: str, count: int, notice: bytes) -> None:
        self._announced.append((signal.Signals(int(topic)), count, notice))
        self._wake()
