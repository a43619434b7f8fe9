"""The way into a run: its own record, which every node reads before it does anything else.

The record says which round is forming, and shows which version of the protocol the run speaks,
whether it has a secret, and which. Whoever doesn't fit is refused at once, with a sentence, before
it has touched a round.
"""

from __future__ import annotations

from ..api.parameters import SECRET_VARIABLE
from ..errors import RendezvousStateError
from ..protocol.keys import RunKeys
from ..protocol.wire import is_forming, read_forming, write_forming
from ..stores.signed import Secret, is_signed
from ..stores.store import Store

_MOST_FORGERIES = 16
_HOW = f"--rdzv-conf secret_file=..., or {SECRET_VARIABLE}"


def enter_run(store: Store, run: RunKeys, secret: Secret | None, forming: int = 0) -> int:
    """Write the run's record, or see whether this node fits the one that stands.

    Args:
        store: The store itself, which hides nothing that is signed by others.
        run: The run's keys.
        secret: What this node was given.
        forming: The round that is forming, if nobody was here before.

    Returns:
        The number of the round that is forming.

    Raises:
        RendezvousStateError: The run has another secret, or another version of the protocol.
    """
    key = run.record
    first = write_forming(forming)
    mine = first if secret is None else secret.sign(key, first)
    standing = store.create(key, mine)
    for _ in range(_MOST_FORGERIES):
        if secret is None or is_signed(standing) or is_forming(standing):
            break
        standing = store.create(key, mine, standing)  # a stranger's, who knows nothing of elrun
    record = standing if secret is None else secret.verify(key, standing)
    if record is None or (secret is None and is_signed(standing)):
        raise RendezvousStateError(_refusal(run, standing, secret))
    return read_forming(key, record)


def _refusal(run: RunKeys, standing: bytes, secret: Secret | None) -> str:
    if secret is None:
        return (
            f"run {run.run_id!r} takes only nodes that know its secret, and this one was given "
            f"none ({_HOW})"
        )
    if is_signed(standing):
        return (
            f"run {run.run_id!r} has another secret than this node: give all its nodes the same "
            f"({_HOW}), or this job a name of its own (--rdzv-id)"
        )
    return (
        f"run {run.run_id!r} was started without a secret, and this node was given one: give all "
        f"its nodes the same ({_HOW}) or none, or this job a name of its own (--rdzv-id)"
    )
