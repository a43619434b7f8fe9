"""SIGUSR2 to elrun asks where the ranks are: one line says it, and the job goes on."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import jsonschema
import pytest
from job_kit import until

pytestmark = pytest.mark.integration

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
REQUEST = signal.SIGUSR2
# Rank 2 is somewhere else; all end once the file is there.
UNTIL_TOLD = """
import os, select, threading, time

def ready():
    os.write(1, b"pid %d\\n" % os.getpid())

def load_batch():
    ready()
    while not os.path.exists("go"):
        select.select([], [], [], 0.05)

def wait_for_all():
    ready()
    while not os.path.exists("go"):
        event.wait(0.05)

event = threading.Event()
load_batch() if os.environ["RANK"] == "2" else wait_for_all()
print("went on", flush=True)
"""
PLACES = "ranks 0-1 in wait (script.py:15); rank 2 in load_batch (script.py:10)"


def started(job, count):
    """Return the process ids of workers, once all are where they wait."""
    pids = [int(job.wait_for_line("pid").split()[1]) for _ in range(count)]
    for pid in pids:
        until(lambda pid=pid: state_of(pid) in "ST")
    return pids


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def has_ended(pid):
    try:
        return state_of(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def asked(job):
    """Ask where the ranks are; return the line that says it."""
    job.signal(REQUEST)
    return answer_of(job)


def answer_of(job):
    while "places on " not in (line := job.process.stderr.readline()):
        assert line, "elrun has ended without an answer"
    return line


@pytest.mark.parametrize("options", [(), ("--preload", "json"), ("--tee", "3")])
def test_a_request_names_the_place_of_each_rank(elrun, script, tmp_path, options):
    """Whole stacks stand in a file that the line names; the job goes on and succeeds."""
    job = elrun("--standalone", "--nproc-per-node", 3, *options, script(UNTIL_TOLD))
    if "--tee" in options:
        until(lambda: job.process.stdout.readline().count("pid"))
    else:
        started(job, 3)
    line = ""
    while PLACES not in line:  # a rank may be seen between two waits
        line = asked(job)
    stacks = Path(re.search(r"whole stacks: (.*)\n", line)[1]).read_text()
    (tmp_path / "go").touch()

    code, out, err = job.finish()

    assert 3 == len(re.findall(r"^rank \d \(pid \d+\): ", stacks, re.MULTILINE))
    assert 'script.py", line 10 in load_batch\n' in stacks
    assert (0, 3) == (code, out.count("went on")), err


def test_with_a_report_whole_stacks_stand_there(elrun, script, tmp_path):
    """And no file beside it."""
    job = elrun("--standalone", "--nproc-per-node", 3, "--report", "r.json", script(UNTIL_TOLD))
    started(job, 3)

    line = asked(job)
    (tmp_path / "go").touch()
    code, _, err = job.finish()

    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert (0, True) == (code, "whole stacks are in the report" in line), err
    assert [("SIGUSR2 asked", [0, 1, 2])] == [
        (report["places"]["why"], [each["rank"] for each in report["places"]["ranks"]])
    ]
    assert all("script.py" in each["stack"] for each in report["places"]["ranks"])


def test_a_thousand_requests_cost_nothing_that_stays(elrun, script, tmp_path):
    """Neither descriptors nor threads, nor memory that grows with each; the workers go on."""
    job = elrun("--standalone", "--nproc-per-node", 2, script(UNTIL_TOLD))
    workers = started(job, 2)
    for _ in range(20):
        asked(job)
    agent = Path(f"/proc/{job.process.pid}")

    def held():
        folders = [agent / "task", *(Path(f"/proc/{each}/fd") for each in (agent.name, *workers))]
        return [len(list(folder.iterdir())) for folder in folders]

    before, before_kib = held(), memory_kib(job.process.pid)
    for _ in range(980):
        job.signal(REQUEST)
        answer_of(job)
    grown_kib = memory_kib(job.process.pid) - before_kib
    # What an agent opens once its job has lived for a while: a run's history, the kernel's log.
    few = 5
    until(lambda: all(now <= then + few for now, then in zip(held(), before, strict=True)))
    (tmp_path / "go").touch()

    code, out, err = job.finish()
    assert (0, 2) == (code, out.count("went on")), err
    assert grown_kib < 10 << 10  # some megabytes are modules of an agent that has lived longer


def memory_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


OTHERS = """
import os, signal, sys, time
rank = os.environ["RANK"]
os.write(1, b"pid %d %s\\n" % (os.getpid(), rank.encode()))
if rank == "0":
    sys.exit(0)
if rank == "1":
    os.execvp("sleep", ["sleep", "1000"])
if rank == "2":
    signal.pause()
if rank == "3":
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
time.sleep(1000)
"""


def test_ranks_that_can_not_answer_are_named_with_what_the_kernel_says(elrun, script):
    """Ended, another program, a wait for signals, blocked signals, stopped."""
    options = ("--standalone", "--nproc-per-node", 5, "--shutdown-timeout", 0)
    job = elrun(*options, script(OTHERS))
    words = [job.wait_for_line("pid").split() for _ in range(5)]
    pid_of = {int(rank): int(pid) for _, pid, rank in words}
    ended = pid_of.pop(0)
    until(lambda: has_ended(ended))
    until(lambda: Path(f"/proc/{pid_of[1]}/comm").read_text() == "sleep\n")
    for pid in pid_of.values():
        until(lambda pid=pid: state_of(pid) in "ST")
    os.kill(pid_of[4], signal.SIGSTOP)
    until(lambda: state_of(pid_of[4]) == "T")

    line = asked(job)
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    assert "rank 0 has ended" in line  # with its exit code, once elrun has looked
    assert "rank 1 runs sleep without elrun's hook, waiting" in line
    assert "rank 2 gives no stack, waiting" in line
    assert "rank 3 blocks signals, waiting" in line
    assert "rank 4 is stopped (SIGSTOP)" in line


# A parent that made a child with CLONE_VFORK waits uninterruptibly until that has ended.
HELD = """
import ctypes, os, platform, signal
os.write(1, b"pid %d\\n" % os.getpid())
clone, CLONE_VFORK = {"x86_64": 56, "aarch64": 220}[platform.machine()], 0x4000
if ctypes.CDLL(None).syscall(clone, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    signal.pause()
"""


def test_a_rank_that_the_kernel_holds_is_named(elrun, script):
    """It can't run the handler of a signal."""
    job = elrun("--standalone", script(HELD))
    pid = int(job.wait_for_line("pid").split()[1])
    until(lambda: state_of(pid) == "D")

    line = asked(job)
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    assert "rank 0 is in an uninterruptible wait for a device or a file sys" in line


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("--no-python", "bash", "-c", "echo pid $$; sleep 1000; true"), {}),
        (("-c", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(1000)"), None),
    ],
)
def test_a_worker_without_a_hook_is_not_harmed(elrun, script, options, environment):
    """A program that does not know the signal would die of it."""
    if environment is None:
        options, environment = (script(options[1]),), {"ELRUN_WORKER_HOOK": "0"}
    job = elrun("--standalone", *options, env=environment)
    pid = int(job.wait_for_line("pid").split()[1])
    until(lambda: state_of(pid) == "S")
    until(lambda: "no worker of this node" not in asked(job))  # a quick one speaks earlier

    lines = [asked(job) for _ in range(3)]

    # For a moment a shell may be in an uninterruptible wait, which is said instead.
    assert all(re.search("rank 0 (runs|is in) ", line) for line in lines), lines
    assert state_of(pid) in "RSD"
    job.signal(signal.SIGTERM)
    assert 143 == job.finish()[0]


def test_requests_do_not_disturb_a_start(elrun, script, tmp_path):
    """From the moment on when elrun can take signals, to the end of the job."""
    (tmp_path / "go").touch()
    job = elrun("--standalone", "--nproc-per-node", 2, script(UNTIL_TOLD))
    handles = 1 << (REQUEST - 1)

    def is_handled():
        status = Path(f"/proc/{job.process.pid}/status").read_text()
        return int(re.search(r"SigCgt:\s+(\w+)", status)[1], 16) & handles

    until(is_handled)
    while job.process.poll() is None:
        job.signal(REQUEST)
        os.sched_yield()

    code, out, err = job.finish()
    assert (0, 2) == (code, out.count("went on")), err


def test_a_request_while_nodes_are_awaited_is_answered(elrun, script, vacant_endpoint):
    """There are no workers yet."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    job = elrun(*meeting, "--rdzv-id", "job", script(UNTIL_TOLD))
    until(lambda: can_connect(vacant_endpoint))

    line = asked(job)
    job.signal(signal.SIGTERM)

    assert (143, True) == (job.finish()[0], "no worker of this node runs now" in line)


def can_connect(endpoint):
    host, port = endpoint.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_each_node_answers_for_its_own_ranks(elrun, script, vacant_endpoint, tmp_path):
    """And says that the others do so, too."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    nodes = [elrun(*meeting, "--rdzv-id", "job", script(UNTIL_TOLD)) for _ in range(2)]
    for node in nodes:
        started(node, 1)

    lines = [asked(node) for node in nodes]
    (tmp_path / "go").touch()
    codes = [node.finish()[0] for node in nodes]

    ranks = [re.search(r"rank (\d) in", line)[1] for line in lines]
    assert (["0", "1"], [0, 0]) == (sorted(ranks), codes)
    assert all("each other node's elrun answers for its own ranks" in line for line in lines)


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told\\n"))
os.write(1, b"ready\\n")
while not os.path.exists("go"):
    time.sleep(0.1)
os._exit(0)
"""


def test_a_request_during_a_stop_is_answered(elrun, script, tmp_path):
    """It tells what the workers are busy with, instead of ending."""
    job = elrun("--standalone", "--shutdown-timeout", 200, script(STUBBORN))
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)
    job.wait_for_line("told")

    line = asked(job)
    (tmp_path / "go").touch()

    # It sleeps in line 6, but for the moments in which it looks for the file, or is told.
    assert (143, True) == (job.finish()[0], "rank 0 in " in line and "(script.py:" in line), line


FAILS_FIRST = """
import os, sys
sys.exit(os.environ["TORCHELASTIC_RESTART_COUNT"] == "0")
"""


def test_a_request_between_two_attempts_is_answered(elrun, script):
    """The pause before a restart goes on."""
    options = ("--standalone", "--max-restarts", 1, "--restart-delay", 200)
    job = elrun(*options, script(FAILS_FIRST))
    while "restarting all workers in " not in job.process.stderr.readline():
        assert job.process.poll() is None

    lines = [asked(job) for _ in range(2)]
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    assert ["no worker of this node runs now" in line for line in lines] == [True] * 2


def test_a_job_may_still_end_by_the_signal(elrun, script):
    """Where the user has said so."""
    job = elrun("--standalone", "--signals-to-handle", "SIGUSR2", script(UNTIL_TOLD))
    started(job, 1)

    job.signal(REQUEST)

    code, _, err = job.finish()
    assert (140, False) == (code, "places on" in err), err


def test_the_stack_of_a_child_process_stands_below_its_worker_s(elrun, script, tmp_path):
    """A DataLoader's worker is one: the rank itself only waits for it."""
    job = elrun("--standalone", script(FORKS))
    job.wait_for_line("child")

    line = asked(job)
    stacks = Path(re.search(r"whole stacks: (.*)\n", line)[1]).read_text()
    (tmp_path / "go").touch()

    assert 0 == job.finish()[0]
    assert "rank 0 in join (script.py:11), for a child process in stuck (script.py:7)" in line
    assert re.search(r"child process \d+:\n(.*\n)+?.*script.py\", line 7 in stuck\n", stacks)


FORKS = """
import multiprocessing, os, time

def stuck():
    os.write(1, b"child\\n")
    while not os.path.exists("go"):
        time.sleep(0.1)

child = multiprocessing.get_context("fork").Process(target=stuck)
child.start()
child.join()
"""
