"""Two agents of one user keep no report under one name; nobody else can keep it from them."""

import os
import subprocess
import sys

import pytest
from elrun.launcher.report_claim import claimed

CLAIM = """
import os, sys
from contextlib import ExitStack
from elrun.launcher.report_claim import claimed
os.setuid(int(sys.argv[2]))  # another user may not be able to read the interpreter's modules
with ExitStack() as ends:
    ends.enter_context(claimed(sys.argv[1]))
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(name="claim")
def _claim():
    """Return what claims a path in another process, as some user."""
    processes = []

    def begin(path, user):
        command = [sys.executable, "-c", CLAIM, path, str(user)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(command, **pipes))
        assert b"claimed\n" == processes[-1].stdout.readline()
        return processes[-1].pid

    yield begin
    for process in processes:
        process.communicate(timeout=60)


@pytest.mark.integration
def test_a_claim_of_the_same_user_stands(claim, tmp_path):
    """The sentence names the process that has it."""
    path = str(tmp_path / "r.json")
    pid = claim(path, os.geteuid())

    with pytest.raises(FileExistsError, match=rf"another elrun \(pid {pid}\)"), claimed(path):
        pass


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_can_refuse_nobody_a_report(claim, tmp_path):
    """Any process of the host may bind the name."""
    path = str(tmp_path / "r.json")
    claim(path, 65_534)

    with claimed(path):
        pass
