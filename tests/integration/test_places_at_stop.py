"""A job that is stopped says where its ranks were."""

import os
import signal

import pytest
from job_kit import until

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
PLACES = "ranks 0-1 in wait (script.py:10); rank 2 in load_batch (script.py:6)"

# elrun, which here gives workers more than a tenth of a second to answer: a busy machine needs it.
PATIENT = """
from elrun.agent.system import stacks
stacks.STOP_DUMP_S = 30.0
from elrun.__main__ import main
main()
"""

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
    options = ("--standalone", "--nproc-per-node", 3, *options)
    job = elrun(*options, script(ODD_ONE_OUT), command=("-c", PATIENT))
    for _ in range(3):
        job.wait_for_line("" if "--tee" in options else "ready")
    until_at(job, PLACES)

    job.signal(number)

    code, _, err = job.finish()
    assert (128 + number, 1) == (code, err.count(f"came: {PLACES}")), err


def test_a_rank_in_a_collective_is_said_to_be_there(elrun, script):
    """C code that waits holds no signal up."""
    options = ("--standalone", "--nproc-per-node", 2)
    job = elrun(*options, script(COLLECTIVE), command=("-c", PATIENT))
    for _ in range(2):
        job.wait_for_line("ready")
    places = "rank 0 in all_reduce (script.py:7); rank 1 in wait (script.py:10)"
    until_at(job, places)

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    assert (143, True) == (code, places in err), err


def until_at(job, places):
    """Ask where the ranks are until each is where it waits: it says that it is ready before."""
    line = ""
    while places not in line:
        job.signal(signal.SIGUSR2)
        while "places on " not in (line := job.process.stderr.readline()):
            assert line, "elrun has ended without an answer"


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
import os, signal, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved")))
print("ready", os.getpid(), flush=True)
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
    job = elrun("--standalone", script(SAVES.format(wait)), command=("-c", PATIENT), stdin=-1)
    pid = int(job.wait_for_line("ready").split()[1])
    until(lambda: waits(pid) or cpu_ticks(pid) > AT_WORK_TICKS)

    job.signal(signal.SIGTERM)

    job.process.wait(60)
    code, out, err = job.finish()
    expected = (143, f"ready {pid}\nsaved\n", is_told)
    assert expected == (code, out, "(script.py:5)" in err), err


AT_WORK_TICKS = 100
"""An interpreter starts in fewer."""


def waits(pid):
    return stat_of(pid)[0] == "S"


def cpu_ticks(pid):
    return int(stat_of(pid)[11]) + int(stat_of(pid)[12])


def stat_of(pid):
    """Return what the kernel shows of a process, from its state on."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()
