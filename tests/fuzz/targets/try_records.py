"""What nodes write for each other in the store, a record of the round protocol in each input."""

from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.protocol import wire
from elrun.rendezvous.protocol.differences import differences
from elrun.rendezvous.protocol.keys import count_in
from elrun.rendezvous.protocol.records import Limits
from elrun.rendezvous.protocol.roster import draw_roster, places_of
from elrun.rendezvous.protocol.round import present

_KINDS = (
    (wire.read_node, wire.write_node),
    (wire.read_roster, wire.write_roster),
    (wire.read_place, wire.write_place),
    (wire.read_verdict, wire.write_verdict),
    (wire.read_forming, wire.write_forming),
)


def attempt(data: bytes) -> None:
    """It is refused, or can be written, read and used."""
    count_in(data)
    wire.is_forming(data)
    for read, write in _KINDS:
        try:
            record = read("a/key", data)
        except RendezvousStateError as error:
            str(error).encode()
            continue
        assert write(record) == write(read("a/key", write(record)))
        _use(record)


def _use(record):
    if hasattr(record, "members"):
        places_of(record)
        differences(record)
    if hasattr(record, "local_world_size") and hasattr(record, "limits"):
        seated = {0: record, 1: record._replace(host="other")}
        limits = Limits(1, 2)
        present(seated, limits)
        roster = draw_roster(1, 0, seated, None, mine=limits)
        written = wire.write_roster(roster)
        assert written == wire.write_roster(wire.read_roster("a/key", written))
        places_of(roster)
        differences(roster)
