"""Which key is the name of what."""

import functools

from elrun.rendezvous.protocol.keys import RunKeys

RUN = RunKeys("run")


@functools.cache
def parse(key):
    """Return what a key names, in which round, and for which seat or rank; -1 for none."""
    parts = key.split("/")[2:]
    if parts[0] != "round" or len(parts) == 1:
        return parts[0], -1, -1
    index = int(parts[3]) if len(parts) > 3 and parts[3].isdigit() else -1
    return parts[2], int(parts[1]), index
