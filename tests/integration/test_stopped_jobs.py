"""Jobs that are told to stop: their workers save what they have, however often they are told."""

import os
import re
import select
import signal

import pytest
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

TERM, HUP, INT, QUIT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT

# It says when it was told, and needs a second to save, or as long as it is let.
SAVES = """
import os, signal, sys, threading

def save(number, frame):
    os.write(1, b"told\\n")
    for known in told:
        signal.signal(known, signal.SIG_IGN)
    done.wait(float(sys.argv[1]))
    os.write(1, b"saved\\n")
    os._exit(0)

told = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
done = threading.Event()
for number in told:
    signal.signal(number, save)
os.write(1, b"ready\\n")
signal.pause()
"""
MORE_THAN_HURRY_S = 0.6


def pause(seconds):
    """Let time pass: how far signals are apart is what these tests are about."""
    select.select([], [], [], seconds)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (TERM, [TERM]),
        (TERM, [TERM, HUP, TERM]),
        (HUP, [HUP, TERM]),
        (INT, [TERM, HUP]),
        (signal.SIGUSR1, [signal.SIGUSR1]),
    ],
)
def test_a_repeated_signal_leaves_the_workers_their_time(elrun, script, first, later):
    """At once, and when the first Ctrl-C would long be old."""
    names = "SIGTERM,SIGHUP,SIGINT,SIGUSR1"
    job = elrun("--standalone", "--signals-to-handle", names, script(SAVES), 1.5)
    job.wait_for_line("ready")

    job.signal(first)
    job.signal(first)  # before it can have been looked at
    job.wait_for_line("told")
    for number in later:
        job.signal(number)
        pause(MORE_THAN_HURRY_S / len(later))
    for number in later:
        job.signal(number)

    code, out, err = job.finish()
    assert (128 + first, "ready\ntold\nsaved\n") == (code, out), err


def test_a_ctrl_c_that_comes_twice_at_once_is_one(elrun, script):
    """The terminal sends it to the whole group, and a wrapper forwards it."""
    job = elrun("--standalone", script(SAVES), 1)
    job.wait_for_line("ready")

    job.signal(INT)
    job.signal(INT)  # a wait for an answer may take longer than a person needs

    code, out, err = job.finish()
    assert (130, "ready\ntold\nsaved\n") == (code, out), err


@pytest.mark.parametrize(("first", "later"), [(INT, INT), (QUIT, QUIT), (INT, QUIT), (TERM, INT)])
def test_a_later_ctrl_c_kills_at_once(elrun, script, first, later):
    """A person does not wait for the shutdown time-out."""
    job = elrun("--standalone", "--shutdown-timeout", 100, script(SAVES), 100)
    job.wait_for_line("ready")

    job.signal(first)
    job.wait_for_line("told")
    pause(MORE_THAN_HURRY_S)
    job.signal(later)

    code, out, err = job.finish(timeout_s=30)
    assert (128 + first, "ready\ntold\n") == (code, out)
    assert "another Ctrl-C (SIGINT or SIGQUIT) came: killed: rank 0: pid " in err


def test_the_deadline_stands_however_often_it_is_told(elrun, script):
    """Repeated signals do not put SIGKILL off, either."""
    job = elrun("--standalone", "--shutdown-timeout", 2, script(SAVES), 100)
    job.wait_for_line("ready")

    job.signal(TERM)
    job.wait_for_line("told")
    while job.process.poll() is None:
        job.signal(TERM)
        pause(0.1)

    code, out, err = job.finish()
    assert (143, "ready\ntold\n") == (code, out)
    assert "SIGTERM did not end all in 2 s" in err


@pytest.mark.parametrize("later", [TERM, INT, HUP])
def test_a_flood_of_signals_does_not_cut_the_report_off(elrun, script, later):
    """From the first signal on the agent handles them, and after it what lets the report end."""
    job = elrun("--standalone", script(SAVES), 0)
    job.wait_for_line("ready")

    job.signal(TERM)
    job.wait_for_line("told")
    while job.process.poll() is None:
        job.signal(later)
        pause(0.0001)

    code, _, err = job.finish()
    assert (143, "stopped by SIGTERM; none of its workers is left" in err) == (code, True), err


SAVES_AND_FAILS = f"""
import os
if os.environ["RANK"] == "1":
    input()
    os._exit(1)
{SAVES}
"""


def test_a_stop_during_a_restart_leaves_the_workers_their_time(elrun, script):
    """They were asked to end already; the signals open no other deadline, and no new round."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 3)
    job = elrun(*options, script(SAVES_AND_FAILS), 1.5, stdin=-1)
    job.wait_for_line("ready")
    job.process.stdin.write("go\n")
    job.process.stdin.flush()
    job.wait_for_line("told")

    job.signal(TERM)
    pause(MORE_THAN_HURRY_S)
    job.signal(TERM)

    code, out, err = job.finish()
    assert (143, "ready\ntold\nsaved\n") == (code, out), err


def test_a_stop_that_comes_with_the_start_starts_nothing_anew(elrun, script):
    """The workers that are being started get the signal, or are never started."""
    job = elrun("--standalone", "--nproc-per-node", 8, "--max-restarts", 3, script(SAVES), 0.1)
    job.wait_for_line("ready")

    job.signal(TERM)
    job.signal(TERM)

    code, out, err = job.finish()
    assert 143 == code, err
    assert out.count("told") == out.count("saved") <= 8


def test_repeated_signals_while_nodes_meet_change_nothing(elrun, script, vacant_endpoint):
    """There is nothing to save, and one word about it."""
    options = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    job = elrun(*options, "--rdzv-id", "job", script(SAVES), 1, env={"LOGLEVEL": "INFO"})
    until(lambda: can_connect(vacant_endpoint))

    job.signal(TERM)
    job.signal(TERM)

    code, out, err = job.finish()
    assert (143, "") == (code, out)
    assert 1 == err.count("stopped by SIGTERM; none of its workers is left")
    assert "Traceback" not in err


@pytest.mark.parametrize("apart_s", [0, 0.3])
def test_a_stop_of_all_nodes_is_told_as_a_stop(elrun, script, vacant_endpoint, apart_s):
    """Each hears of the other before its own signal comes, and says nothing of a new round."""
    options = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    jobs = [elrun(*options, "--rdzv-id", "job", script(SAVES), 1) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("ready")

    for job in jobs:
        job.signal(TERM)
        pause(apart_s)

    for code, out, err in [job.finish() for job in jobs]:
        assert (143, "ready\ntold\nsaved\n") == (code, out), err
        assert "elrun: stopped by SIGTERM; none of its workers is left" == err.splitlines()[-1]
        assert "new round" not in err
        assert "restart" not in err


def test_the_stop_of_one_node_is_told_to_the_others_as_one(elrun, script, vacant_endpoint):
    """They go on without it."""
    options = ("--nnodes", "1:2", "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    ends = SAVES.replace("signal.pause()", 'os.environ["WORLD_SIZE"] == "1" or signal.pause()')
    host = elrun(*options, "--rdzv-id", "job", script(ends), 0.1)
    until(lambda: can_connect(vacant_endpoint))
    other = elrun(*options, "--rdzv-id", "job", script(ends), 0.1)
    for job in (host, other):
        job.wait_for_line("ready")

    other.signal(TERM)

    assert 143 == other.finish()[0]
    code, _, err = host.finish()
    assert 0 == code
    stopped = rf"{os.uname().nodename} \(group rank [01]\) was stopped by SIGTERM"
    assert re.search(f"{stopped}; forming a new round, which costs no restart", err), err


# A scheduler signals all processes of a step, and the agent is not always the first.
HANGS = """
import os, signal
os.write(1, b"pid %d\\n" % os.getpid())
signal.pause()
"""


def test_a_worker_that_a_scheduler_ends_first_is_no_failure(elrun, script):
    """The agent's own signal comes a moment later; until then nothing is restarted."""
    job = elrun("--standalone", "--max-restarts", 3, script(HANGS))
    pid = int(job.wait_for_line("pid ").split()[1])

    os.kill(pid, TERM)
    job.signal(TERM)

    code, out, err = job.finish()
    assert (143, "elrun: stopped by SIGTERM; none of its workers is left\n") == (code, err)
    assert 1 == out.count("pid")
