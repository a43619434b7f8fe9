"""Processes that were forked together, where the agent can't take hold of all of them."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
from elrun.agent.preload import forked
from elrun.agent.preload.forked import ForkedProcess, greet_group
from elrun.agent.system.process_tree import read_process

# Waits for a file system whose server has read the request, and answers when its standard input
# ends: no signal ends such a wait. 26 is the request with which each file system begins.
HELD = """
import ctypes, os, struct, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"held", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit("no mount")
if os.fork() == 0:
    kind = 26
    while kind == 26:
        _, kind, unique = struct.unpack_from("<IIQ", os.read(fuse, 1 << 17))
        if kind == 26:
            answer = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
            os.write(fuse, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
    print("held", flush=True)
    sys.stdin.read()
    os._exit(0)
os.close(fuse)
os.stat(f"{sys.argv[1]}/file")
"""


@pytest.fixture(name="held_child")
def _held_child(tmp_path):
    """Return a child that the kernel holds until ``stdin`` is closed; in its own mounts."""
    command = ["unshare", "--mount", sys.executable, "-c", HELD, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if child.stdout.readline() != b"held\n":
        child.communicate()
        pytest.skip("a file system can't be mounted here")
    yield child
    child.stdin.close()
    child.stdout.close()
    child.wait()


def refuse(pid):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.integration
def test_a_child_that_the_kernel_holds_is_not_waited_for_without_end(held_child, monkeypatch):
    """It was forked in a group, and there was no descriptor to take hold of it."""
    monkeypatch.setattr("elrun.agent.processes.process._open_pidfd", refuse)
    monkeypatch.setattr(forked, "KILL_WAIT_S", 0.1)
    group = [ForkedProcess(), ForkedProcess()]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            greet_group(group, {"pids": [held_child.pid, other.pid]})

        assert not read_process(held_child.pid).ended
        with pytest.raises(ChildProcessError):  # it is reaped
            os.waitpid(other.pid, 0)
    held_child.stdin.close()
    while read_process(held_child.pid) is not None:  # until a thread of the product's reaps it
        time.sleep(0.01)


@pytest.mark.integration
def test_a_process_that_takes_a_while_to_end_is_reaped():
    """The kernel gives back its memory first; here it ends once its standard input does."""
    forked_one = ForkedProcess()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    forked_one.greet(child.pid)
    later = threading.Timer(0.1, child.stdin.close)
    later.start()

    forked_one.await_end(time.monotonic() + 30)

    with pytest.raises(ChildProcessError):  # it is reaped
        os.waitpid(child.pid, 0)
    later.join()
    forked_one.let_go_of_line()
    child.wait()
