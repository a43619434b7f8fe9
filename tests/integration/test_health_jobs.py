"""The health of real jobs, asked for over HTTP."""

import http.client
import json
import os
import re
import signal
import socket
import sys
import time

import pytest
from elrun.agent import ChildFailedError, HealthCheckServer

from elrun import LaunchConfig, elastic_launch

pytestmark = pytest.mark.integration

HANG = "import signal, sys; sys.stdout.write('ready\\n'); signal.pause()"
FAIL_ONCE_THEN_HANG = """
import os, signal, sys
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    sys.exit(1)
print("ready", os.getpid(), flush=True)
signal.pause()
"""
DEAF = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: print("deaf", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(name="asked_job")
def _asked_job(elrun, vacant_port):
    """Start a job that can be asked; return it with a function that asks."""
    jobs = []

    def start(*args, **options):
        port = vacant_port()
        job = elrun(*args, env={"TORCHELASTIC_HEALTH_CHECK_PORT": str(port)}, **options)
        jobs.append(job)
        return job, lambda path: ask(port, path)

    yield start
    for job in jobs:
        job.signal(signal.SIGTERM)
        job.finish()


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_running_job_is_alive_and_ready(asked_job, script):
    """Its loop sleeps until the end of a worker; a question wakes it."""
    job, question = asked_job("--standalone", "--nproc-per-node", 2, script(HANG))
    job.wait_for_line("ready")
    job.wait_for_line("ready")

    assert (200, "ok\n") == question("/healthz")
    assert (200, "ok\n") == question("/readyz")


def test_the_status_after_a_restart(asked_job, script):
    """Round, restarts, ranks and pids are those of the new attempt."""
    job, question = asked_job(
        "--standalone", "--max-restarts", 2, "--rdzv-id", "job7", script(FAIL_ONCE_THEN_HANG)
    )
    pid = int(job.wait_for_line("ready").split()[1])

    code, text = question("/status")

    status = json.loads(text)
    assert 200 == code
    assert ("job7", 1, 1, 2, "HEALTHY") == tuple(
        status[name] for name in ("run_id", "round", "restarts", "max_restarts", "state")
    )
    assert [{"local_rank": 0, "global_rank": 0, "role_rank": 0, "pid": pid}] == status["workers"]


def test_an_agent_that_stops_workers_is_alive_but_not_ready(asked_job, script):
    """It is busy until the time-out of the shutdown; a probe must not kill it for that."""
    job, question = asked_job("--standalone", "--shutdown-timeout", 1_000, script(DEAF))
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)
    job.wait_for_line("deaf")

    assert (200, "ok\n") == question("/healthz")
    code, text = question("/readyz")
    assert 503 == code
    assert re.match(r"the agent has been busy for \d+\.\d s\n", text)
    status = json.loads(question("/status")[1])
    os.kill(status["workers"][0]["pid"], signal.SIGKILL)  # no signal to the agent would do
    assert "HEALTHY" == status["state"]
    assert status["busy_s"] > 0


def test_a_node_that_waits_for_others_is_alive_but_not_ready(asked_job, script, vacant_endpoint):
    """A probe sees a job that waits for its nodes from one that hangs."""
    job, question = asked_job(
        "--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint,
        "--rdzv-id", "job", script(HANG),
    )  # fmt: skip
    wait_for_health(job, question)

    assert (200, "ok\n") == question("/healthz")
    assert (503, "no workers run: their state is INIT\n") == question("/readyz")


def wait_for_health(job, question):
    """Ask until somebody listens; this job prints nothing that could be waited for."""
    while job.process.poll() is None:
        try:
            return question("/healthz")
        except ConnectionRefusedError:
            os.sched_yield()
    raise AssertionError(job.process.stderr.read())


@pytest.mark.parametrize("start", ["command", "function"])
def test_the_port_is_free_after_the_job(elrun, script, vacant_port, start):
    """Nobody answers any more, and the next job can have the port."""
    port = vacant_port()
    env = {"TORCHELASTIC_HEALTH_CHECK_PORT": str(port)}
    program = "import sys" if start == "command" else FORKED
    options = {"command": (script(program),)} if start == "function" else {}
    args = () if start == "function" else ("--standalone", script(program))

    first = elrun(*args, env=env, **options).finish()
    second = elrun(*args, env=env, **options).finish()

    assert [(0, ""), (0, "")] == [(first[0], first[2]), (second[0], second[2])]


FORKED = """
from elrun import LaunchConfig, elastic_launch

def work():
    return 1

assert {0: 1} == elastic_launch(LaunchConfig(1, 1, 1, start_method="fork"), work)()
"""


@pytest.mark.parametrize("said", ["kitchen", "busy"])
def test_a_port_that_cannot_be_had_costs_one_line(elrun, script, said):
    """The job runs, and says once what is missing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {"TORCHELASTIC_HEALTH_CHECK_PORT": str(port) if said == "busy" else said}
        code, _, err = elrun("--standalone", script("import sys"), env=env).finish()

    assert 0 == code
    assert 1 == len(err.splitlines())
    assert "nobody can ask for this agent's health" in err


def test_nothing_is_imported_where_nobody_will_ask(elrun, script):
    """A job without the variable pays nothing for it."""
    program = """
import sys
from elrun import LaunchConfig, elastic_launch
elastic_launch(LaunchConfig(1, 1, 1), "true")()
print(sorted(name for name in sys.modules if "http" in name or "health" in name))
"""

    assert (0, "[]\n", "") == elrun(command=(script(program),)).finish()


class OwnServer(HealthCheckServer):
    """Counts how often it is stopped; it may be unable to stop."""

    def __init__(self, *, is_stuck):
        super().__init__(time.time, 0, 60)
        self.is_stuck = is_stuck
        self.stops = 0

    def stop(self):
        super().stop()
        self.stops += 1
        if self.is_stuck:
            raise OSError("it does not let go")


@pytest.mark.parametrize("is_stuck", [False, True])
@pytest.mark.parametrize("code", [0, 3])
def test_a_server_of_the_caller_s_answers_until_the_job_has_ended(code, is_stuck):
    """It is stopped once, however the job ends; that it can't be changes nothing."""
    server = OwnServer(is_stuck=is_stuck)
    server.start()
    program = f"""
import sys, urllib.request
with urllib.request.urlopen("http://127.0.0.1:{server.port}/healthz") as answer:
    sys.exit({code} if answer.status == 200 else 9)
"""
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1, max_restarts=1)
    try:
        elastic_launch(config, sys.executable, server)("-c", program)
        exitcode = 0
    except ChildFailedError as error:
        exitcode = error.failures[0].exitcode

    assert (code, 1) == (exitcode, server.stops)
    with pytest.raises(ConnectionRefusedError):
        ask(server.port, "/healthz")
