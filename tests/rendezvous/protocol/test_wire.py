"""Records to bytes and back; what stands here in bytes must be readable by every later version."""

import json

import pytest
from elrun.rendezvous.api.handler import Placement, RendezvousStoreInfo, Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.protocol.records import Limits, Member, Node, NotTaken, Origin, Roster
from elrun.rendezvous.protocol.wire import (
    MAX_VERDICT_BYTES,
    read_node,
    read_place,
    read_roster,
    read_verdict,
    write_node,
    write_place,
    write_roster,
    write_verdict,
)

NODE = Node(
    "node1", "10.0.0.1", 20001, 8, "default", Limits(2, 4, 5), Origin(3, 1), wish=7, restarts=2
)
NODE_BYTES = (
    b'{"elrun":1,"kind":"node","host":"node1","address":"10.0.0.1","port":20001,"workers":8,'
    b'"role":"default","nodes":[2,4],"max_restarts":5,"origin":[3,1],"withdrawn":false,"wish":7,'
    b'"restarts":2}'
)
ROSTER = Roster(
    4, 0, 2, Limits(2, 4, 5), (Member(7, Node("n", "::1", 20001, 1, "r", Limits(2, 4, 5))),)
)
ROSTER_BYTES = (
    b'{"elrun":1,"kind":"roster","round":4,"sealed_by":0,"restart_count":2,"nodes":[2,4],'
    b'"max_restarts":5,"members":[{"seat":7,"host":"n","address":"::1","port":20001,"workers":1,"role":"r",'
    b'"nodes":[2,4],"max_restarts":5,"origin":null,"withdrawn":false,"wish":null,"restarts":0}]}'
)
PLACE = Placement(4, 1, 2, 8, 16, 0, 8, 2, RendezvousStoreInfo("10.0.0.1", 20001))
PLACE_BYTES = (
    b'{"elrun":1,"kind":"place","round":4,"group_rank":1,"group_world_size":2,"first_rank":8,'
    b'"world_size":16,"first_role_rank":0,"role_world_size":8,"restart_count":2,'
    b'"address":"10.0.0.1","port":20001}'
)
NOT_TAKEN_BYTES = b'{"elrun":1,"kind":"not taken"}'
VERDICT = Verdict(VerdictKind.WORKER_FAILED, 1, "rank 8 died", {"pid": 12}, (3,))
VERDICT_BYTES = (
    b'{"elrun":1,"kind":"verdict","verdict":"worker failed","by":1,"reason":"rank 8 died",'
    b'"lost":[3],"details":{"pid":12}}'
)

RECORDS = {
    "node": (write_node, read_node, NODE, NODE_BYTES),
    "roster": (write_roster, read_roster, ROSTER, ROSTER_BYTES),
    "place": (write_place, read_place, PLACE, PLACE_BYTES),
    "not taken": (write_place, read_place, NotTaken(), NOT_TAKEN_BYTES),
    "verdict": (write_verdict, read_verdict, VERDICT, VERDICT_BYTES),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_is_written_as_these_bytes(kind):
    """The format is a promise to agents of the same protocol version."""
    write, _, value, data = RECORDS[kind]

    assert data == write(value)


@pytest.mark.parametrize("kind", RECORDS)
def test_these_bytes_are_read_as_the_record(kind):
    """What one agent wrote, another one reads."""
    _, read, value, data = RECORDS[kind]

    assert value == read("some/key", data)


def without(data, name):
    fields = json.loads(data)
    del fields[name]
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, (_, _, _, data) in RECORDS.items() for name in json.loads(data)],
)
def test_every_field_is_needed(kind, name):
    """A record without one of its fields is refused, with the key in the sentence."""
    _, read, _, data = RECORDS[kind]

    with pytest.raises(RendezvousStateError, match="some/key"):
        read("some/key", without(data, name))


REFUSED = {
    "nothing": b"",
    "no JSON": b"\x80\x04\x95pickle",
    "no UTF-8": b'{"elrun":1,"kind":"node","host":"\xff"}',
    "no object": b"[1]",
    "somebody else's object": b'{"kind":"node"}',
    "too deep": b"[" * 4000,
    "too long": NODE_BYTES.replace(b"node1", b"n" * 5000),
    "another kind": NOT_TAKEN_BYTES,
    "a name that is a number": NODE_BYTES.replace(b'"node1"', b"1"),
    "a name that is too long": NODE_BYTES.replace(b"node1", b"n" * 600),
    "a port that is none": NODE_BYTES.replace(b"20001", b"70000"),
    "a port of 0": NODE_BYTES.replace(b"20001", b"0"),
    "workers that are true": NODE_BYTES.replace(b'"workers":8', b'"workers":true'),
    "no workers": NODE_BYTES.replace(b'"workers":8', b'"workers":0'),
    "half a worker": NODE_BYTES.replace(b'"workers":8', b'"workers":8.5'),
    "a huge number": NODE_BYTES.replace(b'"workers":8', b'"workers":1' + b"0" * 20),
    "limits that are no range": NODE_BYTES.replace(b"[2,4]", b"[4,2]"),
    "limits of one number": NODE_BYTES.replace(b"[2,4]", b"[2]"),
    "an origin that is none": NODE_BYTES.replace(b"[3,1]", b"[3,-1]"),
    "withdrawn by a word": NODE_BYTES.replace(b"false", b'"no"'),
}


@pytest.mark.parametrize("address", ["", "a b", "a\0b", "a\udcff", "a\u202eb", "\t", "a\n"])
def test_an_address_is_printable_and_one_word(address):
    """It ends in the environment of other nodes' workers."""
    record = json.loads(NODE_BYTES)
    with pytest.raises(RendezvousStateError, match=r"some/key: address is .* \(host 'node1'\)"):
        read_node("some/key", json.dumps({**record, "address": address}).encode())


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_node_writes_is_refused(case):
    """Everything foreign ends at the door, in one kind of error."""
    with pytest.raises(RendezvousStateError, match="some/key"):
        read_node("some/key", REFUSED[case])


REFUSED_PLACES = {
    "a rank beyond the group": PLACE_BYTES.replace(b'"group_rank":1', b'"group_rank":2'),
    "a first rank beyond the world": PLACE_BYTES.replace(b'"first_rank":8', b'"first_rank":16'),
    "a role larger than the world": PLACE_BYTES.replace(
        b'"role_world_size":8', b'"role_world_size":17'
    ),
}


@pytest.mark.parametrize("case", REFUSED_PLACES)
def test_a_place_that_contradicts_itself_is_refused(case):
    """Ranks lie within their world sizes."""
    with pytest.raises(RendezvousStateError, match="not a number from"):
        read_place("some/key", REFUSED_PLACES[case])


def test_an_unknown_verdict_is_refused():
    """A verdict that this version doesn't know can't be acted on."""
    with pytest.raises(RendezvousStateError, match="verdict is 'tired'"):
        read_verdict("some/key", VERDICT_BYTES.replace(b"worker failed", b"tired"))


def test_another_protocol_version_is_named():
    """The sentence says both versions and what to do."""
    with pytest.raises(RendezvousStateError, match="version 2, this one speaks 1; run the same"):
        read_node("some/key", NODE_BYTES.replace(b'"elrun":1', b'"elrun":2'))


def test_a_verdict_that_is_too_long_is_not_written():
    """Who has more to say than fits hears of it, before anybody reads the half of it."""
    details = {"traceback": "x" * MAX_VERDICT_BYTES}

    with pytest.raises(ValueError, match="1048576 are allowed"):
        write_verdict(Verdict(VerdictKind.ABORTED, details=details))


def test_names_beyond_ascii_survive():
    """Host and role names are any text."""
    name = "knöten-\udcff-\u202e"
    node = Node(name, "::1", 1, 1, name, Limits(1, 1))

    assert node == read_node("some/key", write_node(node))
