"""`make bench` still works: a benchmark that is only run by hand rots."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from job_kit import until

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


@pytest.mark.parametrize("script", ["memory.py", "bench.py", "early.py"])
def test_a_measurement_that_is_ended_leaves_no_job_running(tmp_path, script):
    """By SIGTERM, as `timeout` and CI end a command."""
    with subprocess.Popen(
        [sys.executable, BENCH.with_name(script)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: jobs_in(tmp_path))
        process.terminate()
        code = process.wait(30)
    left = jobs_in(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)

    assert (128 + signal.SIGTERM, set()) == (code, left)


def jobs_in(folder):
    """Return the pids of all that a measurement with this temporary folder has started."""
    found = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"ELRUN_BENCH_JOB={folder}/".encode() in environ.read_bytes():
                found.add(int(environ.parent.name))
    return found


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
