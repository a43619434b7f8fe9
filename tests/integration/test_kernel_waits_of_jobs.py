"""A worker in an uninterruptible wait ends its job."""

import re

import pytest

pytestmark = pytest.mark.integration

# A parent that made a child with CLONE_VFORK waits uninterruptibly until that has ended.
HELD = """
import ctypes, os, platform, signal
if os.environ["RANK"] == "0":
    signal.pause()
clone, CLONE_VFORK = {"x86_64": 56, "aarch64": 220}[platform.machine()], 0x4000
if ctypes.CDLL(None).syscall(clone, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    signal.pause()
"""
PATIENCE = {"TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT": "0.4"}


def test_a_worker_that_the_kernel_holds_is_the_failure(elrun, script):
    """It would hang for ever; restarts are not spent on a node whose device may be broken."""
    code, _, err = elrun(
        "--nproc-per-node", 2, "--max-restarts", 3, script(HELD), env=PATIENCE
    ).finish()

    assert 1 == code
    assert re.match(
        "elrun: .* failed: rank 1 .*in an uninterruptible wait", " ".join(err.split())
    ), err
    assert "after 0 of 3 restarts" in err
