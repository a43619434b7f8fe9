"""What agents write for each other beside the round: causes, outcomes, answers, events."""

import json

from elrun.agent.control.members import _object_after, _wish_in
from elrun.agent.elastic.agreement import Agreement
from elrun.agent.elastic.outcomes import _gathered
from elrun.agent.events.model import Event, RdzvEvent
from elrun.agent.failures.report import RootCause
from elrun.agent.workers.ranks import _RoleInstanceInfo


def attempt(data: bytes) -> None:
    """Each is taken in full, or not at all, with a sentence."""
    agreement = Agreement.__new__(Agreement)
    agreement.root = None
    agreement._take(data)
    if agreement.root is not None:
        root = agreement.root
        assert root == RootCause.from_json(json.loads(json.dumps(root.to_json())))
        assert isinstance(root.reason, str)
    ranks, missing = _gathered([None, data], [])
    assert not (ranks and missing)
    for each in ranks:
        each.is_consequence  # noqa: B018
    for read in (_wish_in, lambda text: _object_after(1, text), Event.deserialize):
        _refuses_or_takes(read, data)
    _refuses_or_takes(RdzvEvent.deserialize, data)
    _refuses_or_takes(_RoleInstanceInfo.deserialize, data)


def _refuses_or_takes(read, data):
    try:
        read(data)
    except ValueError:
        return
