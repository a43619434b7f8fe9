"""What a round over etcd costs, as ``docs/scale.md`` says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).with_name("etcd_rounds.py")
LIGHT = Path(__file__).parents[2] / "benchmarks" / "crowd_etcd.py"
NODES = 16


def test_a_node_makes_few_requests_in_a_round():
    """Transactions and streams of a node do not grow with the number of nodes."""
    command = [sys.executable, str(SCRIPT), str(NODES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    first, second = json.loads(done.stdout)

    # The node that seals may wait once for each other node, which adds one of each at most.
    assert ([True] * 4, [0, 0]) == (
        [
            first["transactions"] <= 5 + 2,
            second["transactions"] <= 4 + 2,
            first["streams"] <= 2 + 1,
            second["streams"] <= 2 + 1,
        ],
        [cost.get("other requests", 0) for cost in (first, second)],
    )


def test_light_clients_ask_the_same_without_nodes():
    """All places arrive: the loop ends, and says what that took."""
    command = [sys.executable, str(LIGHT), str(NODES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert {"seconds", "CPU of etcd", "CPU of the loop"} == json.loads(done.stdout).keys()
