"""``--hang-timeout``: a job in which no rank goes on ends, and says which rank is the odd one."""

import contextlib
import re
import signal
import subprocess

import pytest

pytestmark = pytest.mark.integration

HANGS = """
import ctypes, os, signal, sys, threading, time

def in_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def in_sleep():
    time.sleep(1000)

def in_c_code():
    ctypes.PyDLL(None).sleep(1000)  # no other thread of this process can run Python now

def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)

def polling():
    while True:
        time.sleep(0.05)

def wait_for_others():
    threading.Event().wait()

if os.environ["RANK"] == "1":
    globals()[sys.argv[1]]()
wait_for_others()
"""
OTHERS = "ranks 0, 2 in wait (script.py:23)"


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("in_a_lock", "in in_a_lock (script.py:7)"),
        ("in_sleep", "in in_sleep (script.py:10)"),
        ("in_c_code", "in in_c_code (script.py:13)"),
        ("stopped", "is stopped (SIGSTOP)"),
        ("polling", "in polling (script.py:20)"),
    ],
)
def test_a_rank_that_hangs_is_named(elrun, script, kind, place):
    """With where the others are; its stack stands in the summary, and the exit code is 1."""
    options = ("--standalone", "--nproc-per-node", 3, "--hang-timeout", 2)
    job = elrun(*options, "--shutdown-timeout", 1, script(HANGS), kind)

    code, _, err = job.finish()

    text = " ".join(err.split())
    assert 1 == code, err
    assert f"elrun: no rank goes on: {OTHERS}; rank 1 {place}" in text, err
    assert f"no rank has gone on for 2 s (--hang-timeout): {OTHERS}; rank 1 {place}" in text, err
    assert re.search(r"script.py failed: rank 1 ", text), err
    assert kind == "stopped" or "stack of rank 1" in text, err


PLACES = """
import os, time

def first(): time.sleep(1000)
def second(): time.sleep(1000)
def third(): time.sleep(1000)

(first, second, third)[int(os.environ["RANK"]) * int(os.environ["PLACES"]) // 4]()
"""


@pytest.mark.parametrize(
    ("places", "doubt"),
    [
        (1, "ranks 0-3 in first (script.py:4); no rank stands out"),
        (
            2,
            (
                "ranks 0-1 in first (script.py:4); ranks 2-3 in second (script.py:5); "
                "no rank stands out"
            ),
        ),
        (
            3,
            (
                "ranks 0-1 in first (script.py:4); rank 2 in second (script.py:5); "
                "rank 3 in third (script.py:6); ranks 2-3 stand out alike"
            ),
        ),
    ],
    ids=["all at one place", "halves", "two others"],
)
def test_ranks_that_are_alike_are_told_so(elrun, script, places, doubt):
    """One of them is named, as there has to be one; the sentence says that it is one of several."""
    options = ("--standalone", "--nproc-per-node", 4, "--hang-timeout", 2)
    named = 2 if places == 3 else 0

    code, _, err = elrun(*options, script(PLACES), env={"PLACES": str(places)}).finish()

    text = " ".join(err.split())
    assert 1 == code, err
    assert f"{doubt}, and rank {named} is named for all of them" in text, err
    assert f"script.py failed: rank {named} hung" in text, err


def test_a_job_that_goes_on_is_left_alone(elrun, script):
    """By CPU time, by output, or by one rank alone; a pause is shorter than the time-out."""
    job = elrun(
        *("--standalone", "--nproc-per-node", 3, "--hang-timeout", 4),
        script("""
import os, time
end = time.monotonic() + 9
while time.monotonic() < end:
    if os.environ["RANK"] == "0":
        time.sleep(0.5)
        print("step", flush=True)
    elif os.environ["RANK"] == "1":
        sum(range(100000))
    else:
        time.sleep(9)
"""),
    )

    code, out, err = job.finish()

    assert (0, True, False) == (code, "step" in out, "no rank goes on" in err), err


HANGS_FIRST = """
import os, time
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    time.sleep(1000)
print("went on", flush=True)
"""


def test_a_hang_is_restarted_like_any_failure(elrun, script):
    """It spends one restart."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--hang-timeout", 1.5)
    code, out, err = elrun(*options, script(HANGS_FIRST)).finish()

    assert (0, 2) == (code, out.count("went on")), err
    assert "restarting all workers (restart 1 of 1)" in err


@pytest.mark.parametrize(
    ("rule", "is_restarted"),
    [(("--no-restart-on", "hang"), False), (("--restart-on", "hang"), True)],
)
def test_a_rule_may_name_a_hang(elrun, script, rule, is_restarted):
    """As any cause."""
    options = ("--standalone", "--max-restarts", 1, "--hang-timeout", 1.5, *rule)
    code, _, err = elrun(*options, script(HANGS_FIRST)).finish()

    assert (0 if is_restarted else 1, is_restarted) == (code, "restarting all" in err), err


BEATS = """
import os, threading, time
from elrun import heartbeat
if os.environ["RANK"] == "0":
    for _ in range(12):
        heartbeat()
        time.sleep(0.25)
    os.write(1, b"no more beats\\n")
while True: pass  # as a wait for peers that uses a whole CPU
"""


def test_beats_are_the_only_sign_once_there_was_one(elrun, script):
    """CPU time tells nothing then, on whichever rank."""
    options = ("--standalone", "--nproc-per-node", 2, "--hang-timeout", 2.5)
    code, out, err = elrun(*options, script(BEATS)).finish()

    assert (1, "no more beats\n") == (code, out), err
    assert "ranks 0-1 in <module> (script.py:9)" in err


PRINTS = """
import sys, time
for step in range(12):
    print("step", step, file=getattr(sys, sys.argv[1]), flush=True)
    time.sleep(0.25)
while True:
    print("noise", file=getattr(sys, sys.argv[1]), flush=True)
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("options", "stream", "environment"),
    [
        (("--tee", "1"), "stdout", {}),
        (("--redirects", "3"), "stderr", {}),
        ((), "stderr", {}),
    ],
)
def test_only_lines_that_match_count(elrun, script, options, stream, environment):
    """Wherever elrun sees them."""
    watch = ("--hang-timeout", 2.5, "--hang-log-pattern", r"^step \d+$")
    job = elrun("--standalone", *watch, *options, script(PRINTS), stream, env=environment)

    code, out, err = job.finish()

    assert (1, True) == (code, "rank 0 in <module> (script.py:8)" in err), err
    assert "has matched" not in err
    assert options == ("--redirects", "3") or "step 11" in out + err


def test_a_pattern_that_no_line_has_matched_is_named(elrun, script):
    """Most likely the expression is wrong, and not the job."""
    watch = ("--hang-timeout", 1, "--hang-log-pattern", r"^stepp \d+$")
    job = elrun("--standalone", *watch, "--shutdown-timeout", 1, script(PRINTS), "stderr")

    code, _, err = job.finish()

    sentence = (
        r"no rank has gone on for 1 s (--hang-timeout; no line on this node has matched "
        r"--hang-log-pattern '^stepp \\d+$'): rank 0 in "
    )
    assert (1, True) == (code, sentence in err), err


COLLECTIVE = """
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))

def load_batch():
    time.sleep(1000)

if dist.get_rank() == 1:
    load_batch()
dist.all_reduce(torch.ones(1))
"""
IN_COLLECTIVE = "rank 0 in all_reduce (script.py:11); rank 1 in load_batch (script.py:7)"


def test_a_collective_whose_peer_sleeps(elrun, script):
    """The rank that the others wait for is named, not one that waits."""
    options = ("--standalone", "--nproc-per-node", 2, "--hang-timeout", 4)
    code, _, err = elrun(*options, "--shutdown-timeout", 1, script(COLLECTIVE)).finish()

    assert (1, True) == (code, IN_COLLECTIVE in " ".join(err.split())), err
    assert re.search(r"script.py failed: rank 1 ", " ".join(err.split())), err


LOADER = """
import time, torch
from torch.utils.data import DataLoader, Dataset

class Stuck(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(1000 if index == 3 else 0)
        return torch.ones(1)

for batch in DataLoader(Stuck(), num_workers=1):
    pass
"""


def test_a_worker_of_a_data_loader_that_is_stuck(elrun, script, tmp_path):
    """The rank waits for it; the whole stacks show where it is."""
    options = ("--standalone", "--hang-timeout", 3, "--log-dir", "logs")
    code, _, err = elrun(*options, "--shutdown-timeout", 1, script(LOADER)).finish()

    stacks = re.search(r"whole stacks: (.*)\n", err)[1]
    text = " ".join(err.split())
    words = "in __next__ (script.py:13), for a child process in __getitem__ (script.py:10)"
    assert (1, True) == (code, words in text), err
    with open(stacks, encoding="utf-8") as file:
        assert 'script.py", line 10 in __getitem__\n' in file.read()


TWO_NODES = """
import os, sys, time

def sleep_here():
    time.sleep(1000)

def wait_here():
    while not os.path.exists("hang"):
        if sys.argv[1] == "busy":
            sum(range(100000))
        else:
            time.sleep(0.05)
    time.sleep(1000)

os.write(1, b"ready\\n")
sleep_here() if os.environ["GROUP_RANK"] == "1" else wait_here()
"""


def two_nodes(elrun, script, endpoint, program, *args, timeout_s=2):
    """Start two nodes of two ranks each."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint)
    options = (*meeting, "--rdzv-id", "job", "--nproc-per-node", 2)
    path = script(program)
    return [elrun(*options, "--hang-timeout", timeout_s, path, *args) for _ in range(2)]


def test_two_nodes_that_hang_name_one_rank(elrun, script, vacant_endpoint):
    """Both say the same: the odd rank of the job, wherever it is."""
    program = TWO_NODES.replace('== "1" else', '== "1" and os.environ["LOCAL_RANK"] == "0" else')
    nodes = two_nodes(elrun, script, vacant_endpoint, program, "still")

    ends = [node.finish() for node in nodes]

    words = "ranks 0-1, 3 in wait_here (script.py:12); rank 2 in sleep_here (script.py:5)"
    for code, _, err in ends:
        text = " ".join(err.split())
        assert (1, True) == (code, f"(--hang-timeout): {words}" in text), err
        assert "script.py failed: rank 2 " in text


def test_one_rank_that_goes_on_keeps_a_job_of_two_nodes(elrun, script, vacant_endpoint, tmp_path):
    """On whichever node; once it hangs as well, the job ends."""
    nodes = two_nodes(elrun, script, vacant_endpoint, TWO_NODES, "busy", timeout_s=1)
    for node in nodes:
        node.wait_for_line("ready")
    with pytest.raises(subprocess.TimeoutExpired):
        nodes[0].process.wait(5)  # five times the time-out
    were_running = [node.process.poll() for node in nodes]
    (tmp_path / "hang").touch()

    ends = [node.finish() for node in nodes]

    assert ([None, None], [1, 1]) == (were_running, [code for code, _, _ in ends]), ends


BEATS_ON_ONE_NODE = """
import os, time
from elrun import heartbeat
if os.environ["RANK"] == "0":
    for _ in range(12):
        heartbeat()
        time.sleep(0.25)
while True: pass
"""


def test_beats_of_one_rank_count_for_all_nodes(elrun, script, vacant_endpoint):
    """The ranks of the other node may use CPU time as much as they want."""
    nodes = two_nodes(elrun, script, vacant_endpoint, BEATS_ON_ONE_NODE, timeout_s=2.5)

    ends = [node.finish() for node in nodes]

    assert [1, 1] == [code for code, _, _ in ends], ends
    assert all("ranks 0-3 in <module> (script.py:8)" in " ".join(err.split()) for *_, err in ends)


def test_requests_are_no_sign_of_life(elrun, script):
    """Whoever looks at a job that hangs must not keep it alive."""
    text = "import time; print('ready', flush=True); time.sleep(1000)"
    job = elrun("--standalone", "--hang-timeout", 3, script(text))
    job.wait_for_line("ready")
    while job.process.poll() is None:
        job.signal(signal.SIGUSR2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.process.wait(0.7)

    code, _, err = job.finish()

    assert (1, True) == (code, "places on " in err), err
