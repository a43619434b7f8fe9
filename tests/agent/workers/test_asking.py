"""``elrun.preemption``: what a worker sees of a preemption, and what it survives by asking."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from elrun.agent.monitoring.preemption_notice import PreemptionNotice
from elrun.agent.workers.preemption import VARIABLE, _Inquiry

import elrun

FORK = multiprocessing.get_context("fork")


@pytest.fixture(name="notice")
def _notice(monkeypatch):
    """What an agent shares with its workers, of which this process is one."""
    notice = PreemptionNotice([])
    monkeypatch.setenv(VARIABLE, notice.environment()[VARIABLE])
    yield notice
    notice.end()


def test_what_the_agent_tells_is_seen_at_once(notice):
    """The answer is the same object, and says what holds now."""
    found = _Inquiry().preemption()
    before = (found.pending, found.seconds_left)
    notice.tell(time.monotonic() + 100)

    assert (False, None) == before
    assert (True, True) == (found.pending, 90 < found.seconds_left <= 100)


@pytest.mark.parametrize(("ends_at", "left_s"), [(0.0, 0.0), (math.inf, math.inf)])
def test_the_time_left_is_never_below_zero_and_may_have_no_end(notice, ends_at, left_s):
    """``--grace`` may be infinite; and the deadline passes."""
    notice.tell(ends_at)

    assert left_s == _Inquiry().preemption().seconds_left


def test_a_thread_and_a_forked_child_see_it_as_well(notice):
    """Of an inquiry that was made before them."""
    inquiry = _Inquiry()
    assert not inquiry.preemption().pending
    notice.tell(time.monotonic() + 100)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(inquiry.preemption().pending))
    thread.start()
    thread.join()
    child = FORK.Process(target=lambda: os._exit(inquiry.preemption().pending))
    child.start()
    child.join()

    assert ([True], 1) == (seen, child.exitcode)


def test_a_worker_that_is_forked_from_a_program_that_has_asked_is_told(notice, monkeypatch):
    """Outside elrun nothing was pending; the same answer, which a module may have kept, goes on."""
    monkeypatch.setenv(VARIABLE, "")
    inquiry = _Inquiry()
    answer = inquiry.preemption()
    monkeypatch.setenv(VARIABLE, notice.environment()[VARIABLE])
    notice.tell(time.monotonic() + 100)
    before = answer.pending
    inquiry.begin_worker()

    assert (False, True, True) == (before, answer.pending, inquiry.preemption() is answer)


def test_a_worker_that_is_forked_from_a_program_that_has_not_asked_asks_when_it_wants_to(notice):
    """Until then a signal ends it as ever."""
    inquiry = _Inquiry()
    inquiry.begin_worker()
    notice.tell(time.monotonic() + 100)

    assert inquiry.preemption().pending


@pytest.mark.parametrize("order", [None, "", "10 /proc/0/fd/7", "10 /dev/null", "x,99 ", "10 "])
def test_where_nobody_tells_nothing_is_pending(order):
    """Outside elrun, where the agent has gone, and where signals are only passed on."""
    text = "import elrun; print(elrun.preemption())"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if order is not None:
        environment[VARIABLE] = order

    out = subprocess.run(
        [sys.executable, "-c", text], env=environment, check=True, capture_output=True, text=True
    ).stdout

    assert "Preemption(pending=False, seconds_left=None)\n" == out


ASKS = "import elrun; elrun.preemption()"
OF_A_THREAD = """
import elrun, threading
thread = threading.Thread(target=elrun.preemption)
thread.start()
thread.join()
"""
OWN = "import signal; signal.signal({}, lambda *_: print('own', flush=True)); "
STACKS = "import faulthandler, sys; faulthandler.register({}, file=sys.stdout); "
LATER = "; import signal; signal.signal({}, lambda *_: print('own', flush=True))"
ENDS_A_CHILD = """
import multiprocessing, time
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
child.start()
child.terminate()
child.join()
print(child.exitcode)
"""


def run_signalled(text, number, order):
    """Run a script that signals itself at its end; return its exit code and what it printed."""
    script = f"{text}\nimport os; os.kill(os.getpid(), {number}); print('lives', flush=True)"
    environment = {**os.environ, VARIABLE: order}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "" == done.stderr
    return done.returncode, done.stdout


USR1, TERM = signal.SIGUSR1.value, signal.SIGTERM.value


@pytest.mark.parametrize("number", [USR1, TERM])
@pytest.mark.parametrize("text", [ASKS, OF_A_THREAD], ids=["main thread", "thread"])
def test_a_signal_of_the_workers_does_not_end_one_that_has_asked(text, number):
    """From whichever thread it has."""
    assert (0, "lives\n") == run_signalled(text, number, f"{number} ")


def test_other_signals_end_it_as_ever():
    """elrun would not pass them on."""
    assert (-USR1, "") == run_signalled(ASKS, USR1, "12 ")
    assert (-USR1, "") == run_signalled(ASKS, USR1, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN.format(USR1) + ASKS, "own\n"),
        (ASKS + LATER.format(USR1), "own\n"),
        (STACKS.format(USR1) + ASKS, "Current thread"),
    ],
    ids=["before", "after", "stacks"],
)
def test_a_handler_of_the_script_s_stays(text, said):
    """Whether it was there before, comes later, or is written in C."""
    code, out = run_signalled(text, USR1, f"{USR1} ")

    assert (0, True, True) == (code, said in out, out.endswith("lives\n")), out


def test_python_s_own_table_has_no_handler():
    """A library that sets its handler only where there is none finds none."""
    text = f"{ASKS}; import signal; print(signal.getsignal({USR1}) is signal.SIG_DFL)"

    assert (0, "True\nlives\n") == run_signalled(text, USR1, f"{USR1} ")


@pytest.mark.parametrize("number", [USR1, TERM])
def test_a_signal_does_not_end_it_either_once_a_library_has_put_the_default_back(number):
    """As a trainer does at its end: it finds no handler in Python's table, and restores that."""
    restores = f"; import signal; signal.signal({number}, signal.signal({number}, print))"

    assert (0, "lives\n") == run_signalled(ASKS + restores, number, f"{number} ")


def test_what_sets_a_handler_works_as_ever():
    """It returns the handler of before, refuses what it refused, and is Python's own for others."""
    text = f"""
{ASKS}
import signal, threading
own = lambda *_: None
print(signal.signal({TERM}, own) is signal.SIG_DFL, signal.signal({TERM}, signal.SIG_DFL) is own)
print(signal.signal({USR1}, own) is signal.SIG_DFL, signal.getsignal({USR1}) is own)
for number, handler in (({TERM}, 7), ({TERM}, None), (0, own), (9, own), ("x", own)):
    try:
        signal.signal(number, handler)
    except (ValueError, TypeError, OSError) as error:
        print(type(error).__name__, end=" ")
thread = threading.Thread(target=refused)
thread.start()
thread.join()
"""
    refused = f"""
def refused():
    try:
        signal.signal({TERM}, own)
    except ValueError:
        print("refused")
"""
    out = "True True\nTrue True\nTypeError TypeError ValueError OSError TypeError refused\nlives\n"

    assert (0, out) == run_signalled(refused + text, TERM, f"{TERM} ")


def test_the_agent_hears_which_workers_survive_sigterm(monkeypatch):
    """It has to kill those to stop them; one with a handler of its own is to save by that."""
    notice = PreemptionNotice([signal.SIGTERM])
    monkeypatch.setenv(VARIABLE, notice.environment()[VARIABLE])
    restored = f"{LATER.format(TERM)}; signal.signal({TERM}, signal.SIG_DFL)"
    texts = [ASKS, OWN.format(TERM) + ASKS, "pass", ASKS + LATER.format(TERM), ASKS + restored]
    held = [
        subprocess.Popen(
            [sys.executable, "-c", f"{text}; print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for text in texts
    ]
    for process in held:
        process.stdout.readline()
    pids = dict(enumerate(process.pid for process in held))
    notice.begin_attempt(SimpleNamespace(pids=lambda: pids))
    survivors = notice.survivors_of_sigterm()
    notice.end_attempt()
    notice.begin_attempt(SimpleNamespace(pids=lambda: pids))
    later = notice.survivors_of_sigterm()
    for process in held:
        process.communicate(b"\n")
    notice.end()

    assert ({pids[0], pids[4]}, set()) == (survivors, later)


def test_a_forked_child_can_be_ended_by_sigterm():
    """``Process.terminate`` and DataLoaders end theirs so, also where it is the job's signal."""
    assert (0, "-15\nlives\n") == run_signalled(ASKS + ENDS_A_CHILD, TERM, f"{TERM} ")


def test_a_handler_of_the_script_s_is_its_child_s_too():
    """Nothing is taken from a child that its parent has set."""
    own = LATER.format(TERM) + ENDS_A_CHILD.replace("child.terminate()", "").replace(
        "time.sleep, args=(100,)", "lambda: os.kill(os.getpid(), 15)"
    ).replace("import multiprocessing", "import os, multiprocessing")

    assert (0, "own\n0\nown\nlives\n") == run_signalled(ASKS + own, TERM, f"{TERM} ")


def test_the_public_name_is_kept_once_it_was_looked_up():
    """It is called once a step."""
    assert elrun.preemption is vars(elrun)["preemption"]
