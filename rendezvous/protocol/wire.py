"""Records to bytes and back: JSON with a version; each field is checked when it is read.

    {"elrun": 1, "kind": "node", "host": "node1", …}

Every ``read_…`` function takes the key beside the bytes, for the sentence of the
``RendezvousStateError`` that it raises where the bytes are no such record. Where the job has a
secret, ``stores/signed.py`` puts a signature around these bytes.
"""

from __future__ import annotations

from functools import lru_cache

from ..api.handler import Placement, Verdict, VerdictKind
from ..api.parameters import RendezvousStoreInfo
from ..errors import RendezvousStateError
from ..light_json import json_reader, json_writer
from ..light_typing import Any
from ..network.addresses import MAX_PORT
from .record_reader import Record
from .records import Limits, Member, Node, NotTaken, Origin, Place, Roster
from .round import DOOR

VERSION = 1

MAX_RECORD_BYTES = 4 << 10
MAX_PLACE_BYTES = 16 << 10
MAX_VERDICT_BYTES = 1 << 20
MAX_ROSTER_BYTES = 7 << 20
"""torch's TCPStore takes values of 8 MiB; 10,000 nodes with long names fit."""

_to_json = json_writer()
_from_json = json_reader()

_MOST_KNOWN = 256
"""A node that waits reads the same records at each look."""
_MAX_REASON = 64 << 10
MAX_NOTICE = 1000
# Low enough that a sum over many records still fits into a record.
_MOST_WORKERS = 1 << 16
_MOST_RESTARTS = 1 << 30


def write_forming(number: int) -> bytes:
    """Return a run's own record: the number of the round that is forming."""
    return _pack("run", {"forming": number}, MAX_RECORD_BYTES)


def read_forming(key: str, data: bytes) -> int:
    """Return the number of the round that is forming."""
    return _unpack(key, "run", data, MAX_RECORD_BYTES).count("forming")


def is_forming(data: bytes) -> bool:
    """Return whether the bytes are a run's own record, of any version."""
    try:
        fields = _from_json(data.decode())
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and "elrun" in fields


def write_node(node: Node) -> bytes:
    """Return a node's record.

    Raises:
        ValueError: The record is too long.
        RendezvousStateError: The other nodes would refuse the record, such as for a name of more
            than 512 characters.
    """
    fields = _node_fields(node)
    traits = {"traits": dict(node.traits)} if node.traits else {}
    try:
        data = _pack("node", {**fields, **traits}, MAX_RECORD_BYTES)
    except ValueError:  # a job can do without traits: they are only compared
        data = _pack("node", fields, MAX_RECORD_BYTES)
    read_node("this node's own record", data)
    return data


def read_node(key: str, data: bytes) -> Node:
    """Return the node that a record describes."""
    try:
        return _known_node(data)
    except RendezvousStateError:  # once more, for an error that names the key
        record = _unpack(key, "node", data, MAX_RECORD_BYTES)
    try:
        return _node(record)
    except RendezvousStateError as error:
        raise RendezvousStateError(f"{error} (host {record.glimpse('host')})") from error


def write_roster(roster: Roster) -> bytes:
    """Return a roster's record.

    Raises:
        ValueError: The roster has too many members: more than 10,000.
    """
    fields = {
        "round": roster.round,
        "sealed_by": roster.sealed_by,
        "restart_count": roster.restart_count,
        **_limits_fields(roster.limits),
        "members": [
            {"seat": member.seat, **_node_fields(member.node)} for member in roster.members
        ],
        **_notice_field(roster.notice),
    }
    return _pack("roster", fields, MAX_ROSTER_BYTES)


def read_roster(key: str, data: bytes) -> Roster:
    """Return the roster that a record describes."""
    record = _unpack(key, "roster", data, MAX_ROSTER_BYTES)
    return Roster(
        round=record.count("round"),
        sealed_by=record.count("sealed_by", -1, DOOR),
        restart_count=record.count("restart_count"),
        limits=_limits(record),
        members=tuple(
            Member(member.count("seat", 0, DOOR), _node(member))
            for member in record.records("members")
        ),
        notice=_notice(record),
    )


def write_place(place: Place) -> bytes:
    """Return the record of a seat's place."""
    if isinstance(place, NotTaken):
        return _pack("not taken", {}, MAX_RECORD_BYTES)
    fields = place._asdict()
    fields["address"], fields["port"] = fields.pop("workers_store")
    fields |= _notice_field(fields.pop("notice"))
    return _pack("place", fields, MAX_PLACE_BYTES)


def read_place(key: str, data: bytes) -> Place:
    """Return the place that a record describes."""
    record = _unpack(key, ("place", "not taken"), data, MAX_PLACE_BYTES)
    if record.kind == "not taken":
        return NotTaken()
    group_world_size = record.count("group_world_size", 1)
    world_size = record.count("world_size", 1)
    role_world_size = record.count("role_world_size", 1, world_size)
    return Placement(
        round=record.count("round"),
        group_rank=record.count("group_rank", 0, group_world_size - 1),
        group_world_size=group_world_size,
        first_rank=record.count("first_rank", 0, world_size - 1),
        world_size=world_size,
        first_role_rank=record.count("first_role_rank", 0, role_world_size - 1),
        role_world_size=role_world_size,
        restart_count=record.count("restart_count"),
        workers_store=RendezvousStoreInfo(
            record.address("address"), record.count("port", 1, MAX_PORT)
        ),
        notice=_notice(record),
    )


def write_verdict(verdict: Verdict) -> bytes:
    """Return a verdict's record.

    Raises:
        ValueError: The details are no JSON, or the record is longer than 1 MiB.
    """
    fields = {
        "verdict": verdict.kind.value,
        "by": verdict.by,
        "reason": verdict.reason[:_MAX_REASON],
        "lost": list(verdict.lost),
        "details": dict(verdict.details),
    }
    return _pack("verdict", fields, MAX_VERDICT_BYTES)


def read_verdict(key: str, data: bytes) -> Verdict:
    """Return the verdict that a record describes."""
    record = _unpack(key, "verdict", data, MAX_VERDICT_BYTES)
    try:
        kind = VerdictKind(record.text("verdict"))
    except ValueError as error:
        raise record.refuse("verdict", "one that this version knows") from error
    return Verdict(
        kind=kind,
        by=record.count("by", -1),
        reason=record.text("reason", _MAX_REASON),
        details=record.mapping("details"),
        lost=tuple(record.counts("lost")),
    )


def _pack(kind: str, fields: dict[str, Any], limit: int) -> bytes:
    data = _to_json({"elrun": VERSION, "kind": kind, **fields}).encode()
    if len(data) > limit:
        raise ValueError(f"the {kind} record has {len(data)} bytes, and {limit} are allowed")
    return data


def _unpack(key: str, kinds: str | tuple[str, ...], data: bytes, limit: int) -> Record:
    if len(data) > limit:
        raise RendezvousStateError(f"{key}: {len(data)} bytes, and {limit} are allowed")
    try:
        fields = _from_json(data.decode())
    except (ValueError, RecursionError) as error:
        raise RendezvousStateError(f"{key}: {data[:40]!r}… is no record of elrun's") from error
    if not isinstance(fields, dict) or "elrun" not in fields:
        raise RendezvousStateError(f"{key}: {data[:40]!r}… is no record of elrun's")
    if type(fields["elrun"]) is not int or fields["elrun"] != VERSION:
        raise RendezvousStateError(
            f"{key}: written by elrun with protocol version {str(fields['elrun'])[:20]}, this one "
            f"speaks {VERSION}; run the same version of elrun on every node"
        )
    kind = fields.get("kind")
    if kind not in ((kinds,) if isinstance(kinds, str) else kinds):
        raise RendezvousStateError(f"{key}: a record of the kind {str(kind)[:40]!r} stands there")
    return Record(key, kind, fields)


def _node_fields(node: Node) -> dict[str, Any]:
    return {
        "host": node.host,
        "address": node.address,
        "port": node.port,
        "workers": node.local_world_size,
        "role": node.role,
        **_limits_fields(node.limits),
        "origin": node.origin and [node.origin.round, node.origin.group_rank],
        "withdrawn": node.is_withdrawn,
        "wish": node.wish,
        "restarts": node.restarts,
        **({"fixed": True} if node.is_fixed else {}),
        **({"refusal": node.refusal, "host_leaves": node.is_host} if node.refusal else {}),
    }


def _node(record: Record) -> Node:
    return Node(
        host=record.text("host"),
        address=record.address("address"),
        port=record.count("port", 1, MAX_PORT),
        local_world_size=record.count("workers", 1, _MOST_WORKERS),
        role=record.text("role"),
        limits=_limits(record),
        origin=None if record.is_null("origin") else Origin(*record.pair("origin")),
        is_withdrawn=record.flag("withdrawn"),
        wish=None if record.is_null("wish") else record.count("wish"),
        restarts=record.count("restarts", 0, _MOST_RESTARTS),
        is_fixed=record.has("fixed") and record.flag("fixed"),
        refusal=record.text("refusal") if record.has("refusal") else "",
        is_host=record.has("host_leaves") and record.flag("host_leaves"),
        traits=record.texts("traits") if record.has("traits") else {},
    )


def _notice_field(notice: str) -> dict[str, Any]:
    return {"notice": notice[:MAX_NOTICE]} if notice else {}


def _notice(record: Record) -> str:
    return record.text("notice", MAX_NOTICE) if record.has("notice") else ""


@lru_cache(maxsize=_MOST_KNOWN)
def _known_node(data: bytes) -> Node:
    return _node(_unpack("", "node", data, MAX_RECORD_BYTES))


def _limits_fields(limits: Limits) -> dict[str, Any]:
    return {
        "nodes": [limits.min_nodes, limits.max_nodes],
        "max_restarts": limits.max_restarts,
        **({"beats_ms": [limits.beat_ms, limits.patience_ms]} if limits.beat_ms else {}),
    }


def _limits(record: Record) -> Limits:
    beats = record.pair("beats_ms") if record.has("beats_ms") else (0, 0)
    limits = Limits(*record.pair("nodes"), record.count("max_restarts"), *beats)
    if not 1 <= limits.min_nodes <= limits.max_nodes < DOOR:
        raise record.refuse("nodes", "a range of nodes")
    return limits
