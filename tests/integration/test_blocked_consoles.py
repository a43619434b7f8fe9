"""Consoles that take nothing: no write stands between a signal and its effect."""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios

import pytest

pytestmark = pytest.mark.integration

IGNORES = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
with open(os.environ["READY"], "w") as pipe:
    pipe.write("ready")
while True:
    signal.pause()
"""
FAILS_ONCE = f"""
import os
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os._exit(1)
{IGNORES}
"""
LIBRARY = """
import logging, sys
from elrun import LaunchConfig, elastic_launch
logging.basicConfig(level=logging.DEBUG)
config = LaunchConfig(1, 1, 1, shutdown_timeout=1, max_restarts=3)
elastic_launch(config, sys.executable)(sys.argv[1])
"""
METRICS = """
import sys
from elrun import LaunchConfig, elastic_launch
config = LaunchConfig(1, 1, 1, shutdown_timeout=1, metrics_cfg={"": "console"})
elastic_launch(config, sys.executable)(sys.argv[1])
"""


@pytest.fixture(name="full_pipe")
def _full_pipe():
    """The writing end of a pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.fixture(name="halted_terminal")
def _halted_terminal():
    """A terminal whose output was halted, as by Ctrl-S."""
    master, slave = os.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    yield slave
    os.close(master)
    os.close(slave)


@pytest.fixture(name="run")
def _run(tmp_path):
    """Start a Python command with a worker and a console; return it when the worker is ready."""
    processes = []
    ready = tmp_path / "ready"
    os.mkfifo(ready)

    def run(worker, *command, console, **variables):
        script = tmp_path / "worker.py"
        script.write_text(worker)
        process = subprocess.Popen(
            [sys.executable, *map(str, command), script],
            stdout=subprocess.DEVNULL,
            stderr=console,
            env={**os.environ, **variables, "READY": str(ready)},
            cwd=tmp_path,
        )
        processes.append(process)
        assert "ready" == ready.read_text()
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


ELRUN = ("-m", "elrun", "--standalone", "--shutdown-timeout", 1)


@pytest.mark.parametrize("console", ["full_pipe", "halted_terminal"])
def test_the_deadline_holds_though_nobody_reads_the_console(run, console, request):
    """The worker ignores SIGTERM and is killed; elrun ends with the signal's code."""
    job = run(IGNORES, *ELRUN, console=request.getfixturevalue(console))

    job.send_signal(signal.SIGTERM)

    assert 143 == job.wait(30)


def test_a_later_ctrl_c_kills_though_nobody_reads_the_console(run, full_pipe):
    """However long the workers might have."""
    job = run(IGNORES, *ELRUN[:-1], 1000, console=full_pipe)

    job.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        job.wait(0.7)
    job.send_signal(signal.SIGINT)

    assert 130 == job.wait(30)


@pytest.fixture(name="terminal")
def _terminal():
    """What a terminal shows, and where elrun writes it."""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


@pytest.fixture(name="read_pipe")
def _read_pipe():
    """A pipe that somebody reads, such as a file of a scheduler."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("console", ["terminal", "read_pipe"])
@pytest.mark.parametrize(
    ("number", "options", "sentence"),
    [
        (
            signal.SIGINT,
            (),
            "SIGINT: the workers have 1000 s to end, until HH:MM:SS; another Ctrl-C kills them",
        ),
        (
            signal.SIGTERM,
            (),
            "SIGTERM: the workers have 1000 s to end, until HH:MM:SS; a Ctrl-C kills them",
        ),
        (
            signal.SIGTERM,
            ("--signals-to-handle", "SIGTERM"),
            "SIGTERM: the workers have 1000 s to end, until HH:MM:SS\r\n",
        ),
    ],
)
def test_whoever_waits_for_workers_to_end_reads_how_long(
    run, console, number, options, sentence, request
):
    """While they end: the line at the end comes too late for a person who thinks of kill -9."""
    reader, writer = request.getfixturevalue(console)
    if console == "read_pipe":  # where nobody may be able to press Ctrl-C
        sentence = sentence.partition(";")[0]
    job = run(IGNORES, *ELRUN[:-1], 1000, *options, console=writer)

    job.send_signal(number)

    shown = b""
    while sentence not in re.sub(
        r"\d\d:\d\d:\d\d", "HH:MM:SS", shown.decode().replace("\r\n", "\n").replace("\n", "\r\n")
    ):
        shown += os.read(reader, 4096)
    job.kill()


@pytest.mark.parametrize(
    ("options", "level"),
    [((), "DEBUG"), (("--event-log-handler", "console"), "WARNING"), (("--tee", 3), "INFO")],
)
def test_a_restart_and_a_stop_wait_for_no_line(run, full_pipe, options, level):
    """Whatever is logged or recorded on the way."""
    job = run(FAILS_ONCE, *ELRUN, "--max-restarts", 3, *options, console=full_pipe, LOGLEVEL=level)

    job.send_signal(signal.SIGTERM)

    assert 143 == job.wait(60)


def test_health_is_answered_though_nobody_reads_the_console(run, full_pipe):
    """And the port is given back at the end."""
    job = run(
        FAILS_ONCE,
        *ELRUN,
        "--max-restarts",
        3,
        console=full_pipe,
        LOGLEVEL="DEBUG",
        TORCHELASTIC_HEALTH_CHECK_PORT="0",
    )

    job.send_signal(signal.SIGTERM)

    assert 143 == job.wait(60)


@pytest.mark.parametrize("program", [LIBRARY, METRICS])
def test_a_program_s_own_handlers_hold_up_no_stop(run, tmp_path, full_pipe, program):
    """Though they are the program's, which ends by the exception: its traceback finds no reader."""
    (tmp_path / "program.py").write_text(program)
    worker = FAILS_ONCE if program is LIBRARY else IGNORES
    job = run(worker, tmp_path / "program.py", console=full_pipe)
    children = set(_children_of(job.pid))

    job.send_signal(signal.SIGTERM)

    for pid in children:
        _wait_for_end(pid)


def test_a_failure_that_nobody_reads_ends_with_a_signal(run, full_pipe):
    """Its report waits for a reader, as any program's does, until elrun is told to stop."""
    fails = IGNORES.replace("while True", "os._exit(3)\nwhile True")
    job = run(fails, *ELRUN, console=full_pipe)

    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(1)
    job.send_signal(signal.SIGTERM)

    assert 143 == job.wait(30)


def _children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def _wait_for_end(pid):
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            assert select.select([fd], [], [], 30)[0]
        finally:
            os.close(fd)
