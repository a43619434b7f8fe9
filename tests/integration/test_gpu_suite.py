"""The suite for GPUs (`make gpu`) runs from a bare tree; here its jobs run on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

TREE = Path(__file__).parents[2]
SUITE = TREE / "tests" / "gpu" / "suite.py"
LIBRARIES = ("click", "psutil", "rich", "etcd", "etcd3gw")


def run(*words, **variables):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
        text=True,
        timeout=500,
    )


def test_without_a_gpu_the_suite_is_skipped():
    """And says what is missing."""
    done = run(SUITE, CUDA_VISIBLE_DEVICES="")

    assert (0, "skipped: torch sees no GPU here\n") == (done.returncode, done.stdout)


def test_jobs_that_mean_something_on_a_cpu_run_there(tmp_path):
    """So that a GPU's minutes are not spent on faults of the suite."""
    found = tmp_path / "found.json"

    done = run(SUITE, "--on", "cpu", "--only", "a_", "--json", found)

    outcomes = {name: each["outcome"] for name, each in json.loads(found.read_text()).items()}
    assert 0 == done.returncode, done.stdout + done.stderr
    assert {"ok", "skipped"} == {*outcomes.values()}
    assert "ok" == outcomes["a_collective_of_one_worker"]
    assert "ok" == outcomes["a_hang_in_a_kernel_is_placed"]


def test_a_failure_is_told_without_the_libraries_that_make_it_pretty(tmp_path, script):
    """A bare machine has torch, and perhaps nothing else."""
    for name in LIBRARIES:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name}')\n")
    failing = script("raise ValueError('oh no')")

    done = run("-m", "elrun", "--standalone", failing, PYTHONPATH=str(tmp_path))

    assert 1 == done.returncode, done.stderr
    assert "ValueError: oh no" in done.stderr
    assert "fault in elrun" not in done.stderr
