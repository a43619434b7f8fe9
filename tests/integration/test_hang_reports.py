"""What a job's report says of a hang: one truth for each rank, and the odd one first."""

import json
import re

import pytest

pytestmark = pytest.mark.integration

HANGS = """
import os, platform, signal, sys, threading, time

def sleeps():
    time.sleep(1000)

def is_stopped():
    os.kill(os.getpid(), signal.SIGSTOP)

def is_held():  # by a child made with CLONE_VFORK, until that has ended
    import ctypes
    clone, CLONE_VFORK = {"x86_64": 56, "aarch64": 220}[platform.machine()], 0x4000
    if ctypes.CDLL(None).syscall(clone, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        signal.pause()

def waits_for_a_signal():
    signal.pause()

def has_a_stopped_child():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    os.waitpid(child, 0)

def raise_stop(*_):
    raise RuntimeError("asked to stop")

def go_well(*_):
    os._exit(0)

def go_badly(*_):
    os._exit(3)

answers = {"dies": signal.SIG_DFL, "ignores": signal.SIG_IGN}
answers |= {"raises": raise_stop, "goes_well": go_well, "goes_badly": go_badly}
signal.signal(signal.SIGTERM, answers[sys.argv[2]])
if os.environ["RANK"] == sys.argv[3]:
    globals()[sys.argv[1]]()
threading.Event().wait()
"""
TIMES = ("--hang-timeout", 2, "--shutdown-timeout", 1)


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        ("dies", "stopped by elrun (SIGTERM)"),
        ("ignores", "stopped by elrun (SIGKILL)"),
        ("raises", "stopped by elrun (exit code 1)"),
        ("goes_badly", "stopped by elrun (exit code 3)"),
    ],
)
def test_elrun_has_ended_all_ranks_of_a_hang(elrun, script, tmp_path, answer, ending):
    """However they answer SIGTERM: none failed, one hung, and it comes first."""
    report = tmp_path / "report.json"
    options = ("--standalone", "--nproc-per-node", 3, *TIMES, "--report", report)

    code, _, err = elrun(*options, script(HANGS), "sleeps", answer, "1").finish()

    said = err[err.index("script.py failed:") :]
    rows = re.findall(r"^ +(\d) .*(?:hung, )?stopped by elrun .*", said, re.MULTILINE)
    assert (1, ["1", "0", "2"]) == (code, rows), err
    assert re.match(r"script.py failed: rank 1 hung \(node .*, local rank 1, pid \d+\)", said)
    assert [3, 1] == [said.count(f" {ending}"), said.count(f" hung, {ending}")], err
    others = [each for each in ("failed, too", "exited with", "killed", "(first)") if each in said]
    assert [] == others, err
    states = [each["state"] for each in json.loads(report.read_text())["ranks"]]
    assert ["stopped by elrun"] * 3 == states


def test_ranks_that_end_well_once_asked_have_succeeded(elrun, script):
    """A program may save its state and leave; the one that hung is the first row all the same."""
    options = ("--standalone", "--nproc-per-node", 3, *TIMES)

    code, _, err = elrun(*options, script(HANGS), "sleeps", "goes_well", "1").finish()

    assert (1, 1) == (code, err.count("script.py failed: rank 1 hung (")), err
    assert re.search(r"^ +1 .*hung, stopped by elrun \(exit code 0\)", err, re.MULTILINE), err
    assert re.search(r"^ +0 .* succeeded ", err, re.MULTILINE), err


ODD = [
    ("is_stopped", r"is stopped \(SIGSTOP\)"),
    ("is_held", r"is in an uninterruptible wait for a device or a file system.*"),
    ("waits_for_a_signal", r"gives no stack, waiting.*"),
    ("has_a_stopped_child", r".*, with a child process that is stopped \(SIGSTOP\)"),
]


@pytest.mark.parametrize(("kind", "words"), ODD)
@pytest.mark.parametrize(("ranks", "odd"), [(2, 0), (2, 1), (4, 2)])
def test_a_rank_that_can_not_go_on_is_the_odd_one(elrun, script, kind, words, ranks, odd):
    """Also where it is one of two, and whichever of them."""
    options = ("--standalone", "--nproc-per-node", ranks, *TIMES)

    code, _, err = elrun(*options, script(HANGS), kind, "dies", odd).finish()

    assert (1, 1) == (code, err.count(f"script.py failed: rank {odd} hung (")), err
    sentence = re.search(r"no rank has gone on for 2 s \(--hang-timeout\): (.*)", err)[1]
    assert re.search(rf"rank {odd} {words}(;|$)", sentence), err


@pytest.mark.parametrize("kind", ["is_stopped", "is_held"])
@pytest.mark.parametrize("odd", [0, 1])
def test_two_agents_name_the_rank_that_can_not_go_on(elrun, script, vacant_endpoint, kind, odd):
    """Both name the same one, on whichever node it is."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    options = (*meeting, "--rdzv-id", "job", *TIMES)
    program = script(HANGS)
    nodes = [elrun(*options, program, kind, "raises", odd) for _ in range(2)]

    ends = [node.finish() for node in nodes]

    for code, _, err in ends:
        assert (1, 1) == (code, err.count(f"script.py failed: rank {odd} hung (")), err
        assert "failed, too" not in err
    words = dict(ODD)[kind]
    assert all(re.search(f"rank {odd} {words}(;|$)", err, re.MULTILINE) for *_, err in ends), ends
