"""Jobs whose workers get stuck in a timer, with elrun's client and with torch's."""

import json
import os
import re
import signal
import stat
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ENABLED = {"TORCHELASTIC_ENABLE_FILE_TIMER": "1"}
ELRUNS = "from elrun.agent import timers"
TORCHS = "import torch.distributed.elastic.timer as timers"
STUCK_ONCE = """
import os, threading
{client}

timers.configure(timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))

hangs = os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

def exchange_gradients():
    if hangs:
        threading.Event().wait()

with timers.expires(after=0.3 if hangs else 60, scope="all-reduce"):
    exchange_gradients()
os.write(1, b"through %s\\n" % os.environ["TORCHELASTIC_RESTART_COUNT"].encode())
"""
HANDLES_TERM = """
import os, signal, sys
from elrun.agent import timers

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
client = timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"], signal=signal.SIGTERM)
with timers.expires(after=0.1, scope="step", client=client):
    {wait}
"""
PRINT_ENVIRONMENT = """
import os
print(os.environ.get("TORCHELASTIC_TIMER_FILE"), os.environ.get("PYTHONFAULTHANDLER"))
"""
STUCK_FUNCTION = """
import os, threading
from elrun import LaunchConfig, elastic_launch
from elrun.agent import timers

def train():
    timers.configure(timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
    hangs = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    with timers.expires(after=0.2 if hangs else 60, scope="step"):
        if hangs:
            threading.Event().wait()
    return "through"

if __name__ == "__main__":
    config = LaunchConfig(1, 1, 1, max_restarts=1, start_method="{method}")
    print(elastic_launch(config, train)())
"""


def stuck_once(client):
    return STUCK_ONCE.replace("{client}", client)


@pytest.mark.parametrize("client", [ELRUNS, TORCHS], ids=["elrun's client", "torch's client"])
def test_a_stuck_worker_is_reaped_and_the_job_succeeds(elrun, script, client):
    """The whole group starts again; one line says who was stuck, and where."""
    job = elrun(
        "--standalone", "--nproc-per-node", 2, "--max-restarts", 1, script(stuck_once(client)),
        env=ENABLED,
    )  # fmt: skip

    code, out, err = job.finish()

    assert 0 == code, err
    assert 2 == out.count("through 1")
    said = re.findall(
        r"rank 1 on \S+ was killed by SIG\w+: was stuck in the timer scope 'all-reduce'", err
    )
    assert 1 == len(said), err
    assert "restarting all workers (restart 1 of 1)" in err


def test_the_report_shows_the_scope_and_the_stack(elrun, script, tmp_path):
    """So does the error file, which the worker could not write itself."""
    job = elrun(
        "--standalone", "--nproc-per-node", 2, "--log-dir", tmp_path / "logs",
        script(stuck_once(ELRUNS)), env=ENABLED,
    )  # fmt: skip

    code, _, err = job.finish()

    assert 128 + signal.SIGKILL == code
    assert re.search(r"was stuck in the timer scope 'all-reduce' for \d+(\.\d)? s", err), err
    assert "stack of rank 1:" in err
    assert "in exchange_gradients" in err
    assert "another process sent" not in err
    (error_file,) = tmp_path.glob("logs/*/attempt_0/1/error.json")
    message = json.loads(error_file.read_text())["message"]
    assert message["message"].startswith("was stuck in the timer scope 'all-reduce'")
    assert "exchange_gradients" in message["extraInfo"]["py_callstack"]


def test_without_files_the_report_shows_the_scope(elrun, script):
    """There is no error file then, in which the reason could stand."""
    code, _, err = elrun(
        "--standalone", "--nproc-per-node", 2, "--log-dir", os.devnull, script(stuck_once(ELRUNS)),
        env=ENABLED,
    ).finish()  # fmt: skip

    assert 128 + signal.SIGKILL == code
    assert re.search(r"was stuck in the timer scope 'all-reduce' for \d+(\.\d)? s", err), err
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_torch_s_client_shows_the_stack_on_standard_error(elrun, script):
    """It offers none to the agent; the report says where it is."""
    code, _, err = elrun(
        "--standalone", "--nproc-per-node", 2, script(stuck_once(TORCHS)), env=ENABLED
    ).finish()

    assert 128 + signal.SIGABRT == code
    assert "in exchange_gradients" in err
    assert "its stack stands on its standard error" in err


@pytest.mark.parametrize(
    "wait",
    ["while True: signal.pause()", "signal.pause()"],
    ids=["SIGTERM ends it", "the signal that asks for its stack wakes it"],
)
def test_a_worker_that_ends_well_when_it_is_reaped_has_failed(elrun, script, wait):
    """It didn't do its work: exit code 0 after a signal that it handled is no success."""
    program = script(HANDLES_TERM.replace("{wait}", wait))

    code, _, err = elrun("--standalone", program, env=ENABLED).finish()

    assert 1 == code
    assert re.search(r"was stuck in the timer scope 'step' for \d+(\.\d)? s", err), err


def test_a_program_that_a_shell_started_is_reaped_too(elrun, script):
    """The worker is the shell; the timer is its child's."""
    program = script(stuck_once(ELRUNS))
    shell = script(f"#!/bin/sh\n{sys.executable} {program}\nexit $?\n", "run.sh")
    shell.chmod(0o755)

    code, _, err = elrun(
        "--standalone", "--no-python", "--nproc-per-node", 2, shell, env=ENABLED
    ).finish()

    assert 128 + signal.SIGKILL == code
    assert re.search(r"was stuck in the timer scope 'all-reduce' for \d+(\.\d)? s", err), err
    assert "in exchange_gradients" in err


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_stuck_function_is_reaped(elrun, script, method):
    """Functions find the pipe like commands do."""
    program = script(STUCK_FUNCTION.replace("{method}", method))

    code, out, err = elrun(command=(program,), env=ENABLED).finish()

    assert (0, "{0: 'through'}\n") == (code, out), err


def test_a_preloaded_worker_is_reaped(elrun, script):
    """It was forked, with an environment of its own."""
    code, out, err = elrun(
        "--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--preload", "json",
        script(stuck_once(ELRUNS)), env=ENABLED,
    ).finish()  # fmt: skip

    assert (0, 2) == (code, out.count("through 1")), err


def test_with_the_file_timer_workers_find_its_pipe(elrun, script):
    """A private one, gone after the job."""
    code, out, err = elrun("--standalone", script(PRINT_ENVIRONMENT), env=ENABLED).finish()

    path, fault_handler = out.split()
    assert (0, "", "1") == (code, err, fault_handler)
    assert not os.path.exists(os.path.dirname(path))


def test_without_the_file_timer_there_is_none(elrun, script):
    """Whatever else the variable says."""
    for env in ({}, {"TORCHELASTIC_ENABLE_FILE_TIMER": "0"}):
        code, out, _ = elrun("--standalone", script(PRINT_ENVIRONMENT), env=env).finish()

        assert (0, "None") == (code, out.split()[0])


def test_the_user_may_name_the_pipe(elrun, script, tmp_path):
    """It is made there, for the user alone, and removed after the job."""
    program = script(
        "import os; print(oct(os.stat(os.environ['TORCHELASTIC_TIMER_FILE']).st_mode))"
    )
    path = tmp_path / "timers"

    code, out, err = elrun(
        "--standalone", program, env={**ENABLED, "TORCHELASTIC_TIMER_FILE": str(path)}
    ).finish()

    assert (0, oct(stat.S_IFIFO | 0o600), "") == (code, out.strip(), err)
    assert not path.exists()


def test_a_file_that_stands_in_the_way_is_spared(elrun, script, tmp_path):
    """One warning; the workers find another pipe."""
    path = tmp_path / "data"
    path.write_text("dear")

    code, out, err = elrun(
        "--standalone", script(PRINT_ENVIRONMENT),
        env={**ENABLED, "TORCHELASTIC_TIMER_FILE": str(path)},
    ).finish()  # fmt: skip

    assert 0 == code
    assert Path(out.split()[0]) != path
    assert f"TORCHELASTIC_TIMER_FILE={path} can't be used: what stands there is no pipe" in err
    assert "dear" == path.read_text()


def test_a_stranger_s_request_kills_nobody(elrun, script):
    """Not even the agent, which is no worker of its own."""
    program = """
import json, os, sys, time
from elrun.agent import timers
said = {"version": 1, "pid": os.getppid(), "scope_id": "a", "expiration_time": 0, "signal": 9}
with open(os.environ["TORCHELASTIC_TIMER_FILE"], "w") as pipe:
    pipe.write("noise\\n" + json.dumps(said) + "\\n" + '{"version": 1, "pid": ')
client = timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"])
with timers.expires(after=60, client=client):
    print("through")
"""
    code, out, err = elrun("--standalone", script(program), env=ENABLED).finish()

    assert (0, "through\n") == (code, out), err
    assert "it is none of ours" in err
    assert "a request can't be understood" in err


def test_nothing_is_imported_where_nobody_wants_timers(elrun, script):
    """A job without the variable pays nothing for it."""
    program = """
import sys
from elrun import LaunchConfig, elastic_launch
elastic_launch(LaunchConfig(1, 1, 1), "true")()
print(sorted(name for name in sys.modules if "timer" in name or "watchdog" in name))
"""

    assert (0, "[]\n", "") == elrun(command=(script(program),)).finish()
