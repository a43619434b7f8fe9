"""The store's own side: values, counters, and who waits for what."""

from collections import defaultdict


class Server:
    """What all connections lead to; every call of it takes effect at once.

    Args:
        witness: Told of every write before it is answered.
    """

    def __init__(self, witness):
        self._witness = witness
        self._values = {}
        self._watches = defaultdict(list)

    def add(self, machine, key, amount):
        """Add to a counter; see ``Store.add``."""
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
        if self._values.get(key, b"") == instead_of:
            self._write(machine, key, value)
        return self._values[key]

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
                self.create(machine, key, value)

    def watch(self, watch):
        """Tell a watch as soon as all its keys are there."""
        watch.missing = {key for key in watch.keys if key not in self._values}
        if not watch.missing:
            watch.tell(self.get(None, watch.keys))
        for key in watch.missing:
            self._watches[key].append(watch)

    def _write(self, machine, key, value):
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
