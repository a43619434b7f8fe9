"""What is said about an agent's health, decided without a network."""

import json
import socket
import time

import pytest
from elrun.agent import create_healthcheck_server
from elrun.agent.monitoring.health import AgentHealth, describe, parse_address, start_health
from elrun.agent.workers.worker import WorkerGroup, WorkerSpec, WorkerState

RUNNING = {"state": "HEALTHY", "is_ready": True}
STOPPED = {"state": "STOPPED", "is_ready": False}
TIMEOUT_S = 60.0


class Loop:
    """An agent's loop: it notes that it was woken, and turns when the test says so."""

    def __init__(self, look=RUNNING):
        self.woken = 0
        self.health = AgentHealth("127.0.0.1", 0, TIMEOUT_S, self.wake, lambda: look)

    def wake(self):
        self.woken += 1

    def leave_open(self, silence_s):
        """Ask, and let so much time go by without an echo."""
        self.ask("/healthz")
        self.health._open_since -= silence_s

    def ask(self, path, asked_at=None, is_last_chance=False):
        now = time.monotonic() if asked_at is None else asked_at
        return self.health.answer(path, now, is_last_chance)


@pytest.fixture(name="loop")
def _loop():
    loops = []

    def make(*look):
        loops.append(Loop(*look))
        return loops[-1]

    yield make
    for loop in loops:
        loop.health.stop()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status"])
def test_a_question_wakes_the_loop_and_waits_for_its_echo(loop, path):
    """Nothing is known of a loop that sleeps."""
    agent = loop()
    asked_at = time.monotonic()

    assert agent.ask(path, asked_at) is None
    assert agent.woken == 1
    agent.health.tick()

    assert agent.ask(path, asked_at).status == 200


def test_an_open_question_wakes_the_loop_once(loop):
    """Whoever asks while it is open waits for the same echo."""
    agent = loop()

    agent.ask("/healthz")
    agent.ask("/readyz")

    assert agent.woken == 1


def test_an_old_echo_is_no_answer(loop):
    """The loop may have hung since: it is asked anew."""
    agent = loop()
    agent.ask("/healthz")
    agent.health.tick()

    assert agent.ask("/healthz") is None
    assert agent.woken == 2


@pytest.mark.parametrize(("silence_s", "status"), [(0.5, 200), (59, 200), (61, 503)])
def test_a_busy_loop_is_alive_until_the_timeout(loop, silence_s, status):
    """Stopping workers takes a while; the oldest open question counts."""
    agent = loop()
    agent.leave_open(silence_s)

    answer = agent.ask("/healthz", is_last_chance=True)

    assert status == answer.status
    assert (status == 503) == ("no progress for 61 s" in answer.body)


def test_a_busy_agent_is_not_ready(loop):
    """Nobody knows whether its workers run; the answer says for how long."""
    agent = loop()
    agent.leave_open(3)

    answer = agent.ask("/readyz", is_last_chance=True)

    assert (503, "the agent has been busy for 3.0 s\n") == (answer.status, answer.body)


def test_an_agent_without_running_workers_is_not_ready(loop):
    """The answer names their state."""
    agent = loop(STOPPED)
    asked_at = time.monotonic()
    agent.ask("/readyz", asked_at)
    agent.health.tick()

    answer = agent.ask("/readyz", asked_at)

    assert (503, "no workers run: their state is STOPPED\n") == (answer.status, answer.body)


def test_the_status_of_a_busy_agent_says_for_how_long(loop):
    """So that a person sees what it is busy with."""
    agent = loop()
    agent.leave_open(3)

    status = json.loads(agent.ask("/status", is_last_chance=True).body)

    assert "HEALTHY" == status["state"]
    assert 3 == pytest.approx(status["busy_s"], abs=1)


def test_another_path_is_not_found(loop):
    """The answer says what there is, and the loop sleeps on."""
    agent = loop()

    answer = agent.ask("/metrics")

    assert (404, "ask for /healthz, /readyz or /status\n") == (answer.status, answer.body)
    assert agent.woken == 0


@pytest.mark.parametrize(("age_s", "status"), [(0, 200), (59, 200), (62, 503)])
def test_a_callback_of_ones_own_decides(age_s, status):
    """The names and arguments are those that torch's users know."""
    server = create_healthcheck_server(lambda: int(time.time() - age_s), 0, 60)
    try:
        assert status == server.answer("/healthz", time.monotonic(), True).status
        assert 404 == server.answer("/status", time.monotonic(), True).status
        assert abs(server.alive_callback() - (time.time() - age_s)) < 2
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (" 8080 ", ("127.0.0.1", 8080)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("node1:0", ("node1", 0)),
    ],
)
def test_a_port_alone_is_for_this_host(said, expected):
    """An address before it opens it to others."""
    assert expected == parse_address(said)


@pytest.mark.parametrize(
    "said", ["x", "-1", "70000", "::1", "[::1]", ":8080", "a:b", "\u0661", "0x1F"]
)
def test_a_nonsense_port_is_one_warning(said, caplog):
    """The job runs all the same."""
    assert start_health(said, 30, lambda: None, dict) is None

    (message,) = caplog.messages
    assert message.endswith(f"{said!r} is no address: give PORT or ADDRESS:PORT")


def test_a_busy_port_is_one_warning(caplog):
    """The job runs all the same."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        health = start_health(str(port), 30, lambda: None, dict)
        health.stop()

    expected = (
        f"nobody can ask for this agent's health: 127.0.0.1 port {port} can't be listened at: "
        "Address already in use; give another one with TORCHELASTIC_HEALTH_CHECK_PORT"
    )
    assert [expected] == caplog.messages


def test_a_status_names_the_workers_while_they_run():
    """Their pids are gone as soon as the group has stopped: they may be somebody else's."""
    spec = WorkerSpec("trainer", 1, None, entrypoint="true")
    group = WorkerGroup(spec)
    group.workers[0].id = 4711
    facts = {"run_id": "job", "round_number": 2, "restarts": 1}

    group.state = WorkerState.HEALTHY
    running = describe(group, **facts)
    group.state = WorkerState.STOPPED
    stopped = describe(group, **facts)

    assert ("job", 2, 1, 3, "HEALTHY", True) == tuple(running.values())[:6]
    assert [4711, None] == [each["workers"][0]["pid"] for each in (running, stopped)]
    assert not stopped["is_ready"]
