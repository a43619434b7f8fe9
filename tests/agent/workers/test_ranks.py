"""Ranks of workers."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from elrun.agent import _RoleInstanceInfo
from elrun.agent.workers.ranks import RankSpan, agree_on_span, assign_spans, identical_span
from elrun.rendezvous.api.handler import Placement, RendezvousStoreInfo
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.torch_view import RoundStore


def test_ranks_are_sequential_over_nodes_and_roles():
    """Global ranks run through all nodes, role ranks through the nodes of one role."""
    nodes = [
        _RoleInstanceInfo("trainer", 0, 1),
        _RoleInstanceInfo("trainer", 1, 2),
        _RoleInstanceInfo("ps", 2, 3),
        _RoleInstanceInfo("trainer", 3, 4),
        _RoleInstanceInfo("ps", 4, 5),
    ]

    spans = assign_spans(nodes)

    assert [
        RankSpan(0, 15, 0, 7),
        RankSpan(1, 15, 1, 7),
        RankSpan(3, 15, 0, 8),
        RankSpan(6, 15, 3, 7),
        RankSpan(10, 15, 3, 8),
    ] == spans


def test_identical_nodes_need_no_store_to_know_their_ranks():
    """With the same number of workers everywhere, a node's ranks follow from its own."""
    infos = [_RoleInstanceInfo("r", rank, 4) for rank in range(3)]

    assert assign_spans(infos) == [identical_span(rank, 3, 4) for rank in range(3)]


def test_a_placement_becomes_workers_with_all_their_ranks():
    """Each worker adds its local rank to the node's first ranks."""
    meeting = RendezvousStoreInfo("host", 1)
    place = Placement(0, 1, 2, 4, 8, 2, 6, 0, meeting)

    workers = RankSpan.of(place).workers(2)

    assert [(0, 4, 2, 8, 6), (1, 5, 3, 8, 6)] == [
        (w.local_rank, w.global_rank, w.role_rank, w.world_size, w.role_world_size) for w in workers
    ]


def test_role_infos_order_by_role_then_rank():
    """``compare`` is an order for ``functools.cmp_to_key``."""
    infos = [
        _RoleInstanceInfo("b", 0, 1),
        _RoleInstanceInfo("a", 2, 1),
        _RoleInstanceInfo("a", 1, 1),
    ]

    ordered = sorted(infos, key=functools.cmp_to_key(_RoleInstanceInfo.compare))

    assert [("a", 1), ("a", 2), ("b", 0)] == [(info.role, info.rank) for info in ordered]


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        (("a", 5), ("b", 1), -1),
        (("b", 1), ("a", 5), 1),
        (("a", 1), ("a", 2), -1),
        (("a", 2), ("a", 1), 1),
        (("a", 1), ("a", 1), 0),
    ],
)
def test_compare_returns_a_sign(one, other, sign):
    """The role goes before the rank."""
    order = _RoleInstanceInfo.compare(_RoleInstanceInfo(*one, 1), _RoleInstanceInfo(*other, 1))

    assert sign == (order > 0) - (order < 0)


@pytest.mark.parametrize("count", [1, 3])
def test_agents_agree_on_their_ranks_through_a_store(count):
    """Group rank 0 reads what all bring, and writes each one's ranks."""
    infos = [_RoleInstanceInfo("rs"[rank % 2], rank, 1 + rank) for rank in range(count)]
    memory = MemoryStore()
    with ThreadPoolExecutor() as pool:
        spans = [
            pool.submit(agree_on_span, RoundStore(memory.connect(), "shared/"), info, count)
            for info in reversed(infos)
        ]

    assert assign_spans(infos) == [span.result(30) for span in reversed(spans)]


@pytest.mark.parametrize(("role", "expected"), [("a", (0, 1)), ("b", (2, 2)), ("c", (-1, -1))])
def test_role_boundaries_are_the_first_and_last_index(role, expected):
    """A role that nobody has is at -1, -1."""
    infos = [
        _RoleInstanceInfo("a", 0, 1),
        _RoleInstanceInfo("a", 1, 1),
        _RoleInstanceInfo("b", 0, 1),
    ]

    assert expected == _RoleInstanceInfo.find_role_boundaries(infos, role)


def test_a_role_info_survives_the_wire():
    """What is serialized reads back the same, and is the JSON that torch's agents write."""
    info = _RoleInstanceInfo("trainer", 3, 8)

    assert {"role": "trainer", "rank": 3, "local_world_size": 8} == json.loads(info.serialize())
    assert info == _RoleInstanceInfo.deserialize(info.serialize())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"role": "a"}', b'{"role":1,"rank":"x"}'])
def test_a_foreign_role_info_is_refused(data):
    """What another program left in the store is named in the error."""
    with pytest.raises(ValueError, match="not the role information"):
        _RoleInstanceInfo.deserialize(data)
