"""The store's own side: values, counters, and who waits for what."""

import contextlib
from collections import defaultdict

from elrun.rendezvous.errors import RendezvousRoundOverError
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT, round_of

from .keys import parse


class Server:
    """What all connections lead to; every call of it takes effect at once.

    Args:
        witness: Told of every write before it is answered.
        rounds_kept: How many rounds keep their keys.
    """

    def __init__(self, witness, rounds_kept=ROUNDS_KEPT):
        self._rounds_kept = rounds_kept
        self._first = 0  # of the rounds that keep their keys
        self._witness = witness
        self._values = {}
        self._watches = defaultdict(list)

    def add(self, machine, key, amount):
        """Add to a counter; see ``Store.add``."""
        if amount and self._first:
            self._require_round_of(key)
        value = int(self._values.get(key, b"0")) + amount
        if amount:
            self._write(machine, key, b"%d" % value)
            self._witness.saw_add(machine, key, amount, value)
        return value

    def set(self, machine, values):
        """Write values; see ``Store.set``."""
        for key, value in values.items():
            self._write(machine, key, value)

    def get(self, _machine, keys):
        """Return values; see ``Store.get``."""
        return list(map(self._values.get, keys))

    def create(self, machine, key, value, instead_of=b""):
        """Write a value once; see ``Store.create``."""
        if self._first:
            self._require_round_of(key)
        if self._values.get(key, b"") == instead_of:
            self._write(machine, key, value)
            if key.endswith("/roster"):
                self._free(parse(key)[1] - self._rounds_kept + 1)
        return self._values.get(key, value)

    def exchange(self, machine, values, keys):
        """Write values and read others; see ``store.exchange``."""
        for key, value in values.items():
            self._write(machine, key, value)
        return list(map(self._values.get, keys))

    def carry_out(self, machine, will):
        """Write what a machine has left that is gone."""
        self.set(machine, will.values)
        if not any(key in self._values for key in will.unless):
            for key, value in will.create.items():
                with contextlib.suppress(RendezvousRoundOverError):
                    self.create(machine, key, value)

    def watch(self, watch):
        """Tell a watch as soon as all its keys are there."""
        if self._first:
            try:
                for key in watch.keys:
                    self._require_round_of(key)
            except RendezvousRoundOverError as error:
                watch.tell(error)
                return
        watch.missing = {key for key in watch.keys if key not in self._values}
        if not watch.missing:
            watch.tell(self.get(None, watch.keys))
        for key in watch.missing:
            self._watches[key].append(watch)

    def _is_over(self, key):
        return -1 < parse(key)[1] < self._first

    def _require_round_of(self, key):
        if key not in self._values and self._is_over(key):
            raise RendezvousRoundOverError(round_of(key).over_reason)

    def _free(self, first):
        """Free all rounds before one."""
        if first <= self._first:
            return
        self._first = first
        self._witness.saw_freed(first)
        self._values = {key: v for key, v in self._values.items() if not self._is_over(key)}
        for key in [key for key in self._watches if self._is_over(key)]:
            for watch in self._watches.pop(key):
                watch.tell(RendezvousRoundOverError(round_of(key).over_reason))

    def _write(self, machine, key, value):
        if self._first and self._is_over(key):
            return  # the node is late
        before = self._values.get(key)
        self._values[key] = value
        self._witness.saw_write(machine, key, before, value)
        if before is None and key in self._watches:
            for watch in self._watches.pop(key):
                watch.missing.discard(key)
                if not watch.missing:
                    watch.tell(self.get(None, watch.keys))

    def forget_watches(self):
        """Forget who waits, as a server does that starts anew over the same data."""
        self._watches.clear()
