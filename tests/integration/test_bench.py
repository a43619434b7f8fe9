"""`make bench` still works: a benchmark that is only run by hand rots."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BENCH = Path(__file__).parents[2] / "benchmarks/bench.py"


def test_a_run_prints_a_row_and_keeps_every_sample(elrun, tmp_path):
    """Markdown for people, JSON for programs, both launchers and the floor in each."""
    samples = tmp_path / "bench.json"

    code, out, err = elrun(
        "--only", "P1", "--runs", 2, "--json", samples, command=(BENCH,)
    ).finish()

    header, _, row, *_ = out.splitlines()
    assert 0 == code, err
    assert header.startswith("| # | work | elrun | torchrun | floor |")
    assert row.startswith("| P1 |")
    taken = json.loads(samples.read_text())["samples"]["P1"]
    assert {"elrun": 2, "torchrun": 2, "floor": 2} == {name: len(s) for name, s in taken.items()}
    assert all(isinstance(figure, float) for figures in taken.values() for figure in figures)


@pytest.mark.parametrize("kind", ["memory", "c10d", "etcd-v3", "today"])
def test_nodes_meet_and_what_it_took_is_counted(elrun, kind):
    """As few calls as the design promises, without the signs of life of a machine that is slow."""
    meeting = BENCH.with_name("meeting.py")

    code, out, err = elrun(kind, 4, command=(meeting,)).finish()

    cost = json.loads(out)
    assert 0 == code, err
    assert {"seconds", "operations", "bytes", "beats"} == cost.keys()
    assert cost["operations"] >= 4
    assert cost["bytes"] >= 4 * 40
    if kind in {"memory", "c10d"}:
        assert cost["operations"] <= 4 * 6


def test_nodes_that_do_not_meet_in_time_are_a_failure_in_words(elrun):
    """A figure would be a lie, and no figure a riddle."""
    meeting = BENCH.with_name("meeting.py")

    code, out, err = elrun("memory", 64, "--limit", 0, command=(meeting,)).finish()

    assert (0, {"failed": "not in 0 s"}) == (code, json.loads(out)), err
