"""The way into a run: the run's own record, which every node reads first.

The record has the number of the round that forms. It also shows the version of the run's protocol,
and, by its signature, the run's secret. A node whose version or secret differs is refused with an
error before it has written anything to a round.
"""

from __future__ import annotations

from ..errors import RendezvousStateError
from ..protocol.keys import RunKeys
from ..protocol.wire import is_forming, read_forming, write_forming
from ..stores.server.guard import NO_SECRET_HERE, OTHER_SECRET, SECRET_WANTED, explained
from ..stores.server.hello import Refusal
from ..stores.signed import Secret, is_signed
from ..stores.steps import Asking, Steps

_MOST_FOREIGN_RECORDS = 16


def enter_run(store: Asking, run: RunKeys, secret: Secret | None, forming: int = 0) -> Steps[int]:
    """Create the run's record, or check that this node fits the record that stands.

    Args:
        store: The unsigned store, since a signed one hides the records of other secrets.
        forming: The number to write if the run has no record yet.

    Returns:
        The number of the round that forms.

    Raises:
        RendezvousStateError: The run has another secret, or another version of the protocol.
    """
    key = run.record
    first = write_forming(forming)
    mine = first if secret is None else secret.sign(key, first)
    standing: bytes = yield store.create(key, mine)
    for _ in range(_MOST_FOREIGN_RECORDS):
        if secret is None or is_signed(standing) or is_forming(standing):
            break
        standing = yield store.create(key, mine, standing)  # no record of elrun's: replace it
    record = standing if secret is None else secret.verify(key, standing)
    if record is None or (secret is None and is_signed(standing)):
        kind = OTHER_SECRET if is_signed(standing) else NO_SECRET_HERE
        refusal = Refusal(SECRET_WANTED if secret is None else kind, "")
        raise RendezvousStateError(explained(refusal, run.run_id).reason)
    return read_forming(key, record)
