"""The heartbeat of one node: it writes the node's beat and reads the beats of others.

A node beats from the moment it takes a seat until it leaves the run. While a round forms, it beats
at its seat; as a member of a round, it beats at its group rank. A member goes on to beat there
while it stops its workers after the end of the round, until it takes its next seat.

No node has to watch all others, but each node is watched by at least one other:

- Group ranks 0 and 1 watch all members. Each of them covers for the other.
- Every other member watches the rank before its own. If that rank falls silent, and ranks 0 and 1
  have not reported it, they are lost, too: then the member watches all. However many nodes are lost
  at once, the first rank that is left reports them within twice the patience.
- The node that seals the forming round (seat 0 as a rule) watches the other seats, and the members
  of the round before that have not come back. Every other node watches the seat before its own,
  and all earlier seats once that one is silent.
- A spare watches group rank 0 of the running round, and all members once rank 0 is silent.

So a node makes two short store calls an interval, and all nodes together read O(N) beats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import RendezvousError
from ..logs import Log
from ..protocol.timing import Timing
from ..stores.steps import SLEEP, Asking, Request, Steps
from .failure_detector import FailureDetector

log = Log(__name__)

OnSilence = Callable[[frozenset[str]], Steps[None]]
"""What follows when the nodes with these beats are silent."""

# A read that comes later than this many intervals after the one before counts as a pause.
_LONGEST_PAUSE_INTERVALS = 1.5
# Nodes that are lost together have written their last beats at different times. While a silent node
# has used up more than this part of its patience, the report waits for it.
_NEARLY_SILENT = 0.75


class Heartbeat:
    """Writes one node's beat, and watches the beats of others, from the first ``beat_at`` on."""

    def __init__(
        self,
        open_store: Callable[[], Asking],
        timing: Timing,
        clock: Callable[[], float],
        spawn: Callable[[Steps[None]], None],
    ) -> None:
        self._open_store = open_store
        self._timing = timing
        self._clock = clock
        self._spawn = spawn
        self._life: object | None = None
        self._key = ""
        self._count = 0
        self._next_beat_at = 0.0
        self.written_at: float | None = None
        """When the store took the latest beat, by the clock; None: it has taken none."""
        self._watched: tuple[str, ...] = ()
        self._on_silence: OnSilence | None = None
        self._detector = FailureDetector(
            timing.patience_s, _LONGEST_PAUSE_INTERVALS * timing.heartbeat_s
        )

    def beat_at(self, key: str) -> None:
        """Beat at this key from now on, and at no other; stop watching.

        Args:
            key: The first beat comes one interval from now; write one yourself if it is needed
                sooner.
        """
        self.watch(())
        self._key = key
        self._next_beat_at = self._clock() + self._timing.heartbeat_s
        if self._life is None:
            self._life = object()
            self._spawn(self._run(self._life))

    def watch(
        self, keys: Iterable[str], on_silence: OnSilence | None = None, *, afresh: bool = False
    ) -> None:
        """Watch the beats at these keys, and at no others.

        Args:
            keys: The keys of the other nodes' beats. A key that was watched before keeps the
                silence that was observed so far.
            on_silence: Carried out after each read that finds silent nodes, with their keys.
            afresh: Whether every key gets its full patience from now on.
        """
        self._watched = tuple(keys)
        self._on_silence = on_silence
        if self._watched:
            self._detector.keep_only(set() if afresh else set(self._watched))

    def silent(self) -> frozenset[str]:
        """Return the watched keys whose beats have been silent for the whole patience."""
        return self._detector.check()[0] & frozenset(self._watched)

    def stop(self) -> None:
        """Stop to beat and to watch, until the next ``beat_at``."""
        self._life = None
        self._watched, self._on_silence = (), None

    def step(self) -> Steps[float]:
        """Beat if it is time, read the watched beats; return the seconds to the next step."""
        store = self._open_store()
        asked_at = now = self._clock()
        watched = self._watched
        beat = {}
        if now >= self._next_beat_at:
            self._count += 1
            self._next_beat_at = now + self._timing.heartbeat_s
            beat = {self._key: b"%d" % self._count}
        left_s = self._timing.patience_s
        if beat or watched:
            found = yield store.exchange(beat, watched)
            now = self._clock()
            if beat:
                self.written_at = now
            if watched and watched == self._watched:
                self._detector.observe(dict(zip(watched, found, strict=True)), asked_at, now)
                silent, left_s = self._detector.check()
                is_report_due = left_s > (1 - _NEARLY_SILENT) * self._timing.patience_s
                if silent and is_report_due and self._on_silence is not None:
                    yield from self._on_silence(silent)
                    now = self._clock()
            elif watched:
                left_s = 0.0
        return max(0.0, min(left_s, self._next_beat_at - now))

    def _run(self, life: object) -> Steps[None]:
        pause_s = self._timing.heartbeat_s
        while True:
            yield Request(None, SLEEP, (pause_s,))
            if self._life is not life:
                return
            try:
                pause_s = yield from self.step()
            except RendezvousError as error:
                # The heartbeat goes on: perhaps only this connection is lost, or only for a moment.
                # If the store is lost for good, the wait for the round's verdict reports that.
                log.info("a heartbeat of this node failed: %s", error)
                pause_s = self._timing.heartbeat_s
