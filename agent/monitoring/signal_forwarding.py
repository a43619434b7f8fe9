"""Passes signals on to the workers, while the job goes on: a scheduler's "save now" (SIGUSR1).

SLURM sends the signal to every process of a step, and so to the workers themselves; Kubernetes and
``kill`` send it to elrun alone. A worker that got it twice might save twice. The guardian is a
process that nobody would signal by itself, so it is the witness: if it got the signal, all did.
"""

from __future__ import annotations

import time

from ...rendezvous.logs import Log
from ..processes.companion import Companion, Trouble, Wakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

    from ..processes.context import PContext
    from ..processes.guardian import Guardian

log = Log(__name__)

WITNESS_S = 0.05
"""How far apart a signal may reach elrun and its guardian, if it was sent to all processes."""


class SignalForwarder(Companion):
    """Sends workers what this process is sent.

    Args:
        take: Returns, once, the signals that have come, and when by the clock.
        guardian: The witness.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        take: Callable[[], Sequence[tuple[signal.Signals, float]]],
        guardian: Guardian,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._guardian = guardian
        self._clock = clock
        self._came: list[tuple[signal.Signals, float]] = []
        self._witnessed_at: dict[int, float] = {}
        self._workers: PContext | None = None

    def begin_attempt(self, workers: PContext) -> None:
        """Take note of the workers that signals are for."""
        self._workers = workers

    def wakes(self) -> Wakes:
        """Return when a signal that has come is to be passed on."""
        within_s = None
        if self._came:
            within_s = max(0.0, self._came[0][1] + WITNESS_S - self._clock())
        return Wakes((self._guardian.witness_fd,), within_s)

    def tick(self) -> Trouble | None:
        """Pass on what nobody else has brought to the workers."""
        now = self._clock()
        for number in self._guardian.take_witnessed():
            self._witnessed_at[number] = now
        came, self._came = [*self._came, *self._take()], []
        for number, at in came:
            if abs(self._witnessed_at.get(number, -WITNESS_S) - at) <= 2 * WITNESS_S:
                del self._witnessed_at[number]
                log.warning("%s came to all processes of this node, workers too", number.name)
            elif now - at < WITNESS_S:
                self._came.append((number, at))
            else:
                self._pass_on(number)
        return None

    def end_attempt(self) -> None:
        """Forget the workers, which are being stopped."""
        self._workers = None

    def _pass_on(self, number: signal.Signals) -> None:
        count = 0 if self._workers is None else self._workers.signal_workers(number)
        if not count:
            log.warning("%s came while no worker of this node runs: nobody gets it", number.name)
            return
        noun = "worker" if count == 1 else "workers"
        log.warning("%s is passed on to %d %s; the job goes on", number.name, count, noun)
