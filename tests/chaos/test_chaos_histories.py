"""A short part of `make chaos`: real agents, in network namespaces, with each kind of store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.schedule import FAULTS

HERE = Path(__file__).parent
UNAVAILABLE = 69
PLACES = (HERE, HERE.parent / "integration")


@pytest.mark.integration
@pytest.mark.parametrize("backend", FAULTS)
def test_a_short_history_keeps_every_promise(backend):
    """Some faults, one after the other: the job goes on after each, and nothing is left."""
    words = ["--minutes", "0.3", "--seed", "9", "--backend", backend]
    done = subprocess.run(
        [sys.executable, "-m", "rig", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PLACES))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stderr)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
