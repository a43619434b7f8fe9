"""What the nodes of a test job say together, and in which order they measure."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest
from elrun.launcher.verbs import job_checks
from elrun.launcher.verbs.job_checks import findings_of

FAST = {"round_trip_s": 0.0001, "bytes_per_s": 1e9, "clock_ahead_s": 0.001}

SLOW = "rank 2 on n2 and rank 1 on n1: 0.80 Gbit/s, others 8.00 Gbit/s"


def node(rank, pairs=None, **changes):
    """Return what a node's worker writes of it."""
    return {
        "rank": rank,
        "host": f"n{rank}",
        "elrun": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0",
        "options": "nnodes=3:3",
        "pairs": pairs or {},
        "collectives": {"gloo": {"bytes": 4 << 20, "seconds": 0.01}},
        "gloo_address": f"10.0.0.{rank}",
        **changes,
    }


def three(**changes):
    """Return three nodes that differ in nothing, but that rank 2 is as given."""
    pairs = changes.pop("pairs", {"0": FAST, "1": FAST})
    return [node(0), node(1, {"0": FAST}), node(2, pairs, **changes)]


def found(nodes):
    return [(check.verdict.value, check.name, check.found) for check in findings_of(nodes)]


def test_nodes_that_are_alike_are_well():
    """Four lines say so."""
    assert [
        ("ok", "versions and options", "the same on all nodes"),
        ("ok", "clocks", "at most 1.0 ms apart"),
        (
            "ok",
            "connections",
            "3 pairs: 8.00 Gbit/s to 8.00 Gbit/s, round trips of at most 0.10 ms",
        ),
        ("ok", "all-reduce by gloo", "4 MiB in 10.0 ms (3.36 Gbit/s)"),
    ] == found(three())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"torch": "2.4.0"},
            ("warning", "torch differs", "2.13.0: rank 0 on n0, rank 1 on n1; 2.4.0: rank 2 on n2"),
        ),
        (
            {"pairs": {"0": FAST, "1": {**FAST, "clock_ahead_s": 3.5}}},
            ("warning", "clocks", "rank 2 on n2 is 3.5 s behind rank 1 on n1"),
        ),
        (
            {"pairs": {"0": FAST, "1": {**FAST, "clock_ahead_s": -3.5}}},
            ("warning", "clocks", "rank 1 on n1 is 3.5 s behind rank 2 on n2"),
        ),
        (
            {"pairs": {"0": FAST, "1": {"problem": "TimeoutError"}}},
            ("failed", "connection", "between rank 2 on n2 and rank 1 on n1: TimeoutError"),
        ),
        (
            {"pairs": {"0": FAST, "1": {**FAST, "bytes_per_s": 1e8}}},
            ("warning", "slow connection", SLOW),
        ),
        (
            {"gloo_address": "127.0.1.1"},
            ("warning", "address for gloo", "rank 2 on n2: its host name is 127.0.1.1 there"),
        ),
        (
            {"collectives": {"gloo": {"problem": "RuntimeError: no"}}},
            ("failed", "all-reduce by gloo", "rank 2 on n2: RuntimeError: no"),
        ),
        (
            {"collectives": {"gloo": FAST, "nccl": {"bytes": 1 << 20, "seconds": 1}}},
            ("warning", "all-reduce by nccl", "rank 0 on n0, rank 1 on n1 can't take part"),
        ),
    ],
)  # fmt: skip
def test_the_odd_one_out_is_named(changes, expected):
    """With what is odd."""
    if "collectives" in changes and changes["collectives"]["gloo"] is FAST:
        changes = {"collectives": {**changes["collectives"], "gloo": {"bytes": 1, "seconds": 1}}}

    assert expected in found(three(**changes))


def test_a_loopback_address_is_right_where_all_nodes_are_on_one_host():
    """As in a test."""
    nodes = [node(rank, host="vm", gloo_address="127.0.0.1") for rank in range(2)]

    assert "address for gloo" not in [name for _, name, _ in found(nodes)]


@pytest.fixture(name="worker", scope="module")
def _worker():
    """Return the worker's script as a module, with stand-ins for torch that nothing is asked of."""
    path = Path(job_checks.__file__).with_name("doctor_worker.py")
    spec = importlib.util.spec_from_file_location("doctor_worker", path)
    module = importlib.util.module_from_spec(spec)
    names = ["torch", "torch.distributed", "torch.distributed.rendezvous"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torch"].distributed = sys.modules["torch.distributed"]
        sys.modules["torch.distributed"].PrefixStore = None
        sys.modules["torch.distributed.rendezvous"].rendezvous = None
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", range(1, 14))
def test_each_pair_meets_once_and_each_at_its_turn(worker, size):
    """Whoever does its pairs in order never waits for one that waits for it in a circle."""
    left = {rank: list(worker.partners(rank, size)) for rank in range(size)}

    assert all(sorted({*range(size)} - {rank}) == sorted(each) for rank, each in left.items())
    while any(left.values()):
        ready = [
            (one, queue[0])
            for one, queue in left.items()
            if queue and left[queue[0]] and left[queue[0]][0] == one
        ]
        assert ready
        for one, other in ready:
            if one < other:
                left[one].pop(0)
                left[other].pop(0)


def test_many_nodes_measure_with_their_neighbours(worker):
    """All pairs of a thousand nodes would take an hour."""
    assert [0, 499, 501] == worker.partners(500, 1000)
    assert 999 == len(worker.partners(0, 1000))


def without(name):
    return [node(0), {key: value for key, value in node(1).items() if key != name}]


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        (without("pairs"), "rank 1: it has no 'pairs'"),
        (without("gloo_address"), "rank 1: it has no 'gloo_address'"),
        (without("host"), "rank 1: it has no 'host'"),
        ([node(0), "x"], "rank 1: it is no object"),
        ([node(0), node(1, collectives={"gloo": {"seconds": 1}})], "rank 1: gloo has no 'bytes'"),
        ([node(0), node(1, {"0": {"ms": 1}})], "rank 1: 0 has no 'clock_ahead_s'"),
    ],
)
def test_a_report_of_another_elrun_is_named(nodes, fault):
    """Each node's elrun measures and writes as it does."""
    assert [("failed", "what nodes found", fault)] == found(nodes)
