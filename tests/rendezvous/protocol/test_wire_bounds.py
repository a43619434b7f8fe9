"""The bounds of records: the last value that is read, and the first one that is refused."""

import json

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.protocol.records import Limits, Node
from elrun.rendezvous.protocol.wire import (
    is_forming,
    read_node,
    read_place,
    read_roster,
    read_verdict,
    write_forming,
    write_node,
    write_verdict,
)

NODE = {
    "elrun": 1, "kind": "node", "host": "a", "address": "::1", "port": 1, "workers": 1,
    "role": "", "nodes": [1, 1], "max_restarts": 0, "origin": None, "withdrawn": False,
    "wish": None, "restarts": 0,
}  # fmt: skip
MEMBER = {"seat": 0, **NODE}
ROSTER = {
    "elrun": 1, "kind": "roster", "round": 0, "sealed_by": -1, "restart_count": 0,
    "nodes": [1, 1], "max_restarts": 0, "members": [MEMBER],
}  # fmt: skip
PLACE = {
    "elrun": 1, "kind": "place", "round": 0, "group_rank": 0, "group_world_size": 1,
    "first_rank": 0, "world_size": 1, "first_role_rank": 0, "role_world_size": 1,
    "restart_count": 0, "address": "::1", "port": 1,
}  # fmt: skip
VERDICT = {
    "elrun": 1, "kind": "verdict", "verdict": "node lost", "by": -1, "reason": "", "lost": [],
    "details": {},
}  # fmt: skip
RECORDS = {
    "node": (NODE, read_node),
    "roster": (ROSTER, read_roster),
    "place": (PLACE, read_place),
    "verdict": (VERDICT, read_verdict),
}
DOOR = 1_000_000

TAKEN = [
    ("node", {}),
    ("node", {"port": 65535, "workers": 1 << 16, "restarts": 1 << 30, "wish": 0}),
    ("node", {"nodes": [1, DOOR - 1], "origin": [0, 0], "fixed": True}),
    ("roster", {}),
    ("roster", {"sealed_by": DOOR, "members": [{**MEMBER, "seat": DOOR}]}),
    ("roster", {"members": []}),
    ("place", {}),
    ("place", {"group_world_size": 2, "group_rank": 1, "world_size": 2, "first_rank": 1}),
    ("place", {"world_size": 2, "role_world_size": 2, "first_role_rank": 1, "port": 65535}),
    ("verdict", {}),
    ("verdict", {"by": 0, "reason": "x" * (64 << 10), "lost": [0]}),
]
REFUSED = [
    ("node", {"port": 0}),
    ("node", {"port": 65536}),
    ("node", {"workers": 0}),
    ("node", {"workers": (1 << 16) + 1}),
    ("node", {"restarts": -1}),
    ("node", {"restarts": (1 << 30) + 1}),
    ("node", {"nodes": [0, 1]}),
    ("node", {"nodes": [1, DOOR]}),
    ("node", {"nodes": [2, 1]}),
    ("node", {"wish": -1}),
    ("node", {"fixed": 1}),
    ("roster", {"sealed_by": -2}),
    ("roster", {"sealed_by": DOOR + 1}),
    ("roster", {"members": [{**MEMBER, "seat": -1}]}),
    ("roster", {"members": [{**MEMBER, "seat": DOOR + 1}]}),
    ("place", {"group_world_size": 0}),
    ("place", {"group_rank": -1}),
    ("place", {"group_rank": 1}),
    ("place", {"world_size": 0}),
    ("place", {"first_rank": -1}),
    ("place", {"first_rank": 1}),
    ("place", {"role_world_size": 0}),
    ("place", {"role_world_size": 2}),
    ("place", {"first_role_rank": -1}),
    ("place", {"first_role_rank": 1}),
    ("place", {"port": 0}),
    ("place", {"port": 65536}),
    ("verdict", {"by": -2}),
    ("verdict", {"reason": "x" * ((64 << 10) + 1)}),
    ("verdict", {"lost": [-1]}),
]


def read(kind, changes):
    fields, reader = RECORDS[kind]
    return reader("key", json.dumps({**fields, **changes}).encode())


@pytest.mark.parametrize(("kind", "changes"), TAKEN)
def test_the_last_value_within_the_bounds_is_read(kind, changes):
    """Both ends belong to a range."""
    read(kind, changes)


@pytest.mark.parametrize(("kind", "changes"), REFUSED)
def test_the_first_value_beyond_the_bounds_is_refused(kind, changes):
    """A record with it changes nothing."""
    with pytest.raises(RendezvousStateError, match="^key"):
        read(kind, changes)


@pytest.mark.parametrize(("kind", "limit"), [("node", 4 << 10), ("place", 16 << 10)])
def test_a_record_has_as_many_bytes_as_its_limit_and_no_more(kind, limit):
    """Fields that a later version adds count as well."""
    padding = limit - len(json.dumps({**RECORDS[kind][0], "pad": ""}))
    read(kind, {"pad": "x" * padding})

    with pytest.raises(RendezvousStateError, match=f"{limit + 1} bytes, and {limit} are allowed"):
        read(kind, {"pad": "x" * (padding + 1)})


def test_a_verdict_is_written_with_as_many_bytes_as_its_limit_and_no_more():
    """The limit is that of the reader."""

    def verdict(size):
        return Verdict(VerdictKind.ABORTED, details={"pad": "x" * size})

    room = (1 << 20) - len(write_verdict(verdict(0)))

    assert 1 << 20 == len(write_verdict(verdict(room)))
    with pytest.raises(ValueError, match=f"has {(1 << 20) + 1} bytes"):
        write_verdict(verdict(room + 1))


def test_a_fixed_rank_survives():
    """Only nodes with fixed ranks have the field."""
    node = Node("a", "::1", 1, 1, "", Limits(1, 1), wish=0)

    assert [node, node._replace(is_fixed=True)] == [
        read_node("key", write_node(each)) for each in (node, node._replace(is_fixed=True))
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (write_forming(3), True),
        (b'{"elrun":99}', True),
        (b"{}", False),
        (b"[]", False),
        (b'["elrun"]', False),
        (b"\xff", False),
        (b"", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_record_of_any_version_is_known_as_elrun_s(data, expected):
    """What a stranger wrote in its place may be replaced."""
    assert expected == is_forming(data)
