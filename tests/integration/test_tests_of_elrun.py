"""Tests share what is costly, and depend on nothing that a machine happens to set."""

import os
import subprocess
import sys
from pathlib import Path

FILE = "tests/rendezvous/stores/server/test_tls_connections.py"


def test_tests_that_share_something_costly_run_in_one_process():
    """A second SLURM or browser costs a minute, and CI's machine has two cores."""
    command = (sys.executable, "-m", "pytest", "-v", "-k", "all_or_none", FILE)

    done = subprocess.run(
        (*command, "--numprocesses", "2", "--dist", "loadgroup"),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )

    results = [line for line in done.stdout.splitlines() if "PASSED" in line]
    assert 1 == len({line.split()[0] for line in results}), results


def test_workers_of_tests_buffer_what_they_print():
    """Where a container sets it, each word is a write, and the words of two workers mix."""
    folder = Path(__file__).parent.parent
    command = (sys.executable, "-c", "import os, conftest; print(os.getenv('PYTHONUNBUFFERED'))")

    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.check_output(command, text=True, cwd=folder, env=environment)

    assert "None\n" == done
