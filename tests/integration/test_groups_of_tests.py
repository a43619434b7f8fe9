"""What the tests of one file share is made once, although they run in two processes."""

import subprocess
import sys

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
