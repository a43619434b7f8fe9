"""A job that is stopped says where its ranks were."""

import os
import select
import signal

import pytest

pytestmark = pytest.mark.integration

ODD_ONE_OUT = """
import os, threading, time

def load_batch():
    os.write(1, b"ready\\n")
    time.sleep(1000)

def wait_for_all():
    os.write(1, b"ready\\n")
    threading.Event().wait()

load_batch() if os.environ["RANK"] == "2" else wait_for_all()
"""
PLACES = "came: ranks 0-1 in wait (script.py:10); rank 2 in load_batch (script.py:6)"

COLLECTIVE = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
os.write(1, b"ready\\n")
if dist.get_rank() == 0:
    dist.all_reduce(torch.ones(1))
else:
    import threading
    threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--preload", "json"), ("--tee", "3")])
def test_equal_ranks_are_folded_and_the_odd_one_is_named(elrun, script, number, options):
    """Of each rank the innermost line of its own code."""
    job = elrun("--standalone", "--nproc-per-node", 3, *options, script(ODD_ONE_OUT))
    for _ in range(3):
        job.wait_for_line("" if options == ("--tee", "3") else "ready")
    pause(0.3)  # from the word to the wait

    job.signal(number)

    code, _, err = job.finish()
    assert (128 + number, 1) == (code, err.count(PLACES)), err


def test_a_rank_in_a_collective_is_said_to_be_there(elrun, script):
    """C code that waits holds no signal up."""
    job = elrun("--standalone", "--nproc-per-node", 2, script(COLLECTIVE))
    for _ in range(2):
        job.wait_for_line("ready")
    pause(0.5)  # for rank 0, which has said so before, to be in it

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    assert (143, True) == (
        code,
        "rank 0 in all_reduce (script.py:7); rank 1 in wait (script.py:10)" in err,
    ), err


def pause(seconds):
    """Let time pass: where a process waits is not to be seen from outside."""
    select.select([], [], [], seconds)


def test_a_rank_that_can_not_answer_holds_nobody_up(elrun, script):
    """A stopped process writes nothing; the others are told of."""
    job = elrun("--standalone", "--nproc-per-node", 3, script(f"{PID}{ODD_ONE_OUT}"))
    pids = [int(job.wait_for_line("pid").split()[1]) for _ in range(3)]
    ranks = [int(dict(variables(pid))["RANK"]) for pid in pids]
    stopped = pids[ranks.index(2)]
    os.kill(stopped, signal.SIGSTOP)

    job.signal(signal.SIGTERM)
    os.kill(stopped, signal.SIGCONT)

    assert 143 == job.finish()[0]


PID = "import os; os.write(1, b'pid %d\\n' % os.getpid())\n"


def variables(pid):
    """Return the environment of a process."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            name, _, value = entry.decode().partition("=")
            yield name, value


def test_programs_that_are_not_python_are_not_asked(elrun, script):
    """A signal that they do not know would end them."""
    job = elrun(
        *("--standalone", "--no-python", "bash", "-c"),
        'trap "echo saved; exit 0" TERM; echo ready; while true; do sleep 0.1; done',
    )
    job.wait_for_line("ready")

    job.signal(signal.SIGTERM)

    code, out, err = job.finish()
    assert (143, "ready\nsaved\n", False) == (code, out, "when the signal came" in err), err


SAVES = """
import signal, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved")))
print("ready", flush=True)
{}
print("went on")
"""


@pytest.mark.parametrize(
    ("wait", "is_told"),
    [
        ("time.sleep(1000)", True),
        ("threading.Event().wait()", True),
        ("threading.Event().wait(1000)", True),
        ("sys.stdin.read()", True),
        ("while True: pass", True),
        ("signal.pause()", False),
        ("signal.sigtimedwait([signal.SIGUSR1], 1000)", False),
    ],
)
def test_a_script_that_saves_still_saves(elrun, script, wait, is_told):
    """Whatever it waits for: a wait for signals would end with the question, and is left alone."""
    job = elrun("--standalone", script(SAVES.format(wait)), stdin=-1)
    job.wait_for_line("ready")
    pause(0.2)

    job.signal(signal.SIGTERM)

    job.process.wait(60)
    code, out, err = job.finish()
    assert (143, "ready\nsaved\n", is_told) == (code, out, "(script.py:5)" in err), err
