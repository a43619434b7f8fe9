"""One node's sign of life, and its ear for those of others: a thread of its own.

A node has a beat from the moment it takes a seat until it leaves the run: first on its seat, then,
as a member of a round, on its group rank, also while it stops its workers after the round's end,
until it takes its next seat.

Nobody has to listen to all, but somebody has to listen to each:

- Group ranks 0 and 1 listen to all members, so each covers for the other.
- Every other member listens to the one before it. If that one falls silent, so have 0 and 1, or
  else they would have said so by now: then it listens to all. However many nodes are lost at once,
  the first one that is left says so, within twice the patience.
- The node on seat 0, which seals the round that is forming, listens to those who sit there, and to
  the members of the round before who have not come. Every other one listens to the one that sits
  before it, and to all who do if that one falls silent.
- A spare listens to group rank 0 of the round that runs, and to all members if that falls silent.

So a node makes two short calls an interval, and all together read O(N) beats.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from ..errors import RendezvousError
from ..protocol.timing import Timing
from ..stores.store import Store
from .failure_detector import Judge

log = logging.getLogger(__name__)

# How much later than it should a look may come and still count in full.
_LATENESS = 1.5
# Nodes that are lost together have beaten last at different times. One that has used up more than
# this part of the patience is waited for before the others are told of.
_NEARLY_SILENT = 0.75


class Heart:
    """Beats and listens while it has a key to beat at.

    Args:
        open_store: Returns the store, over a connection that may be busy without harm; is given
            the one that failed, if one did.
        timing: How often to beat, and how long to bear silence.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        open_store: Callable[[Store | None], Store],
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_store = open_store
        self._timing = timing
        self._clock = clock
        self._broken: Store | None = None
        # What follows is written under the lock, by any thread.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._rested = threading.Event()
        self._key = ""
        self._count = 0
        self._beats_at = 0.0
        self._names: tuple[str, ...] = ()
        self._on_silence: Callable[[frozenset[str]], None] | None = None
        self._judge = Judge(timing.patience_s, _LATENESS * timing.heartbeat_s)

    def beat_at(self, key: str) -> None:
        """Beat at this key from now on, and at no other; stop listening.

        Args:
            key: Who wants the first beat there at once writes it.
        """
        self.listen_to(())
        with self._lock:
            self._key = key
            self._beats_at = self._clock() + self._timing.heartbeat_s
            if self._thread is None:
                self._rested = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._rested,), name="elrun-heart", daemon=True
                )
                self._thread.start()

    def listen_to(
        self,
        keys: Iterable[str],
        on_silence: Callable[[frozenset[str]], None] | None = None,
        *,
        afresh: bool = False,
    ) -> None:
        """Listen to the beats at these keys, and to no others.

        Args:
            keys: Where the others beat. One that was listened to before keeps its silence.
            on_silence: Called after each look that finds some silent for too long, with those; in
                the heart's own thread.
            afresh: Whether all have their full patience from now on.
        """
        with self._lock:
            self._names = tuple(keys)
            self._on_silence = on_silence
            if self._names:
                self._judge.forget_all_but(set() if afresh else set(self._names))

    def silent(self) -> frozenset[str]:
        """Return the keys, of those listened to, that have been silent for too long."""
        with self._lock:
            return self._judge.silent() & frozenset(self._names)

    def rest(self) -> None:
        """Beat no more, until the next key."""
        with self._lock:
            self._rested.set()
            self._thread = None
            self._names, self._on_silence = (), None

    def step(self) -> float:
        """Beat if it is time, listen, and return the seconds until the next step."""
        store = self._open_store(self._broken)
        self._broken = store  # unless this step comes to its end
        now = self._clock()
        with self._lock:
            names, key = self._names, self._key
            is_due = now >= self._beats_at
            if is_due:
                self._count += 1
                self._beats_at = now + self._timing.heartbeat_s
            beat = b"%d" % self._count
        if is_due:
            store.set({key: beat})
        left_s = self._listen(store, names) if names else self._timing.patience_s
        self._broken = None
        with self._lock:
            return max(0.0, min(left_s, self._beats_at - self._clock()))

    def _listen(self, store: Store, names: tuple[str, ...]) -> float:
        """Look at the beats, and return the seconds until another look could find more."""
        asked_at = self._clock()
        beats = dict(zip(names, store.get(names), strict=True))
        with self._lock:
            if names != self._names:
                return 0.0
            self._judge.look(beats, asked_at, self._clock())
            missed = self._judge.silent()
            tell, left_s = self._on_silence, self._judge.due_in_s()
        is_settled = left_s > (1 - _NEARLY_SILENT) * self._timing.patience_s
        if missed and is_settled and tell is not None:
            tell(missed)
        return left_s

    def _run(self, rested: threading.Event) -> None:
        pause_s = self._timing.heartbeat_s
        while not rested.wait(pause_s):
            try:
                pause_s = self.step()
            except RendezvousError as error:  # noqa: PERF203  a beat now and then
                # Whoever watches the round finds out if the store is lost for good. But this may be
                # the loss of one connection, or of a moment: then the node must go on to beat.
                log.info("a heartbeat of this node failed: %s", error)
                pause_s = self._timing.heartbeat_s
