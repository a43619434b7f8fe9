"""Stacks of processes that are stuck, taken from outside."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from elrun.agent.system import stacks
from elrun.agent.system.process_states import describe_state
from elrun.agent.system.stacks import (
    NO_STACK,
    StackOffer,
    abort_with_stack,
    shows_stack_at_abort,
    take_stack,
)
from worker_kit import PATIENCE_S, open_fds

pytestmark = pytest.mark.integration

STUCK = """
import threading, re
from elrun.agent.system.stacks import offer_stack

def stuck_in_regex():
    print(offer.signal, offer.fd, flush=True)
    re.match(r"(a+)+$", "a" * 60 + "b")  # in C, for ages, without ever letting go of the GIL

def waiting():
    threading.Event().wait()

offer = offer_stack()
threading.Thread(target=waiting).start()
stuck_in_regex()
"""
PLAIN = "import signal; print('ready', flush=True); signal.pause()"

ALLOW_CORE_FILES = """
import resource; resource.setrlimit(4, resource.getrlimit(4)[1:] * 2); """


@contextmanager
def running(program, *options, **more):
    """Start a program; give its process, a pidfd, and the words of its first line."""
    command = [sys.executable, *options, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            yield process, pidfd, process.stdout.readline().split()
        finally:
            os.close(pidfd)
            process.kill()


def test_a_process_that_can_run_no_python_shows_its_stacks():
    """Of all threads, however tight it holds the interpreter; it lives on."""
    before = open_fds()
    with running(STUCK) as (process, pidfd, said):
        first, second = (take_stack(process.pid, pidfd, StackOffer(*map(int, said))) for _ in "ab")
        is_running = process.poll() is None

    for stack in (first, second):
        assert re.search(r"File \"<string>\", line \d+ in stuck_in_regex\n", stack)
        assert re.search(r"File \"<string>\", line \d+ in waiting\n", stack)
    assert is_running
    assert open_fds() <= before  # another test's may have been collected meanwhile


@pytest.mark.parametrize(
    "offer",
    [
        NO_STACK,
        StackOffer(signal.SIGTERM, 1),
        StackOffer(signal.SIGRTMAX - 1, 1),
        StackOffer(99, 1),
    ],
)
@pytest.mark.usefixtures("heeded_signals")
def test_an_offer_that_would_end_the_process_is_not_taken(offer):
    """Who doesn't catch a signal dies of it; what a request says is not trusted."""
    with running(PLAIN) as (process, pidfd, _):
        assert take_stack(process.pid, pidfd, offer) == ""
        process.send_signal(signal.SIGINT)

        assert -signal.SIGINT == process.wait(PATIENCE_S)


@pytest.mark.parametrize("fd", [-1, 0, 999])
def test_an_offer_of_no_pipe_is_not_taken(fd):
    """Standard input is /dev/null here, and would never be read to an end."""
    with running(STUCK, stdin=subprocess.DEVNULL) as (process, pidfd, said):
        assert take_stack(process.pid, pidfd, StackOffer(int(said[0]), fd)) == ""


def test_a_process_that_was_stopped_shows_nothing(monkeypatch):
    """It would have to run for that; the wait is bounded."""
    monkeypatch.setattr(stacks, "DUMP_S", 0.1)
    with running(STUCK) as (process, pidfd, said):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, pidfd, os.WSTOPPED)

        assert take_stack(process.pid, pidfd, StackOffer(*map(int, said))) == ""
        assert "stopped (SIGSTOP)" == describe_state(process.pid)


def test_a_process_that_has_ended_shows_nothing():
    """Its files in /proc are gone, or empty."""
    with running(STUCK) as (process, pidfd, said):
        process.kill()
        process.wait(PATIENCE_S)

        assert take_stack(process.pid, pidfd, StackOffer(*map(int, said))) == ""
        assert not shows_stack_at_abort(process.pid)
        assert describe_state(process.pid) == ""


def test_an_interpreter_with_a_fault_handler_shows_its_stack_when_it_is_aborted(tmp_path):
    """On standard error, and without a core file."""
    program = ALLOW_CORE_FILES + PLAIN
    options = {"stderr": subprocess.PIPE, "cwd": tmp_path}
    with running(program, "-X", "faulthandler", **options) as (process, pidfd, _):
        assert shows_stack_at_abort(process.pid)
        assert abort_with_stack(process.pid, pidfd)

        assert 'File "<string>", line 2 in <module>' in process.stderr.read()
        assert -signal.SIGABRT == process.wait(PATIENCE_S)
    assert [] == list(tmp_path.iterdir())


def test_a_plain_interpreter_would_die_of_abort_in_silence():
    """So nobody aborts it."""
    with running(PLAIN, env={**os.environ, "PYTHONFAULTHANDLER": ""}) as (process, _, _):
        assert not shows_stack_at_abort(process.pid)


def test_a_program_s_own_signals_are_left_alone():
    """The stack is offered on one that nobody handles or ignores."""
    program = """
import signal
from elrun.agent.system.stacks import offer_stack
last = signal.SIGRTMAX - 1
signal.signal(last, print)
signal.signal(last - 1, signal.SIG_IGN)
print(last, offer_stack().signal, flush=True)
"""
    with running(program) as (_, _, (last, offered)):
        assert int(offered) == int(last) - 2
