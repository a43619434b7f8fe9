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

    header, _, row = out.splitlines()
    assert 0 == code, err
    assert header.startswith("| # | work | elrun | torchrun | floor |")
    assert row.startswith("| P1 |")
    assert "failed" not in row
    taken = json.loads(samples.read_text())["samples"]["P1"]
    assert {"elrun": 2, "torchrun": 2, "floor": 2} == {name: len(s) for name, s in taken.items()}
