"""Says over HTTP how an agent is: whether its loop lives, whether its workers run, and which.

The loop may sleep for hours, so that when it turned last says nothing. It is asked: a question
wakes it, and its echo says that it lives. A loop that is busy, because it stops workers, echoes
late. So an answer waits for the echo only for a moment, and the agent counts as dead once a
question has stayed open for longer than the time-out.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...rendezvous.network.addresses import parse_endpoint
from ..workers.environment import HEALTH_CHECK_PORT
from ..workers.worker import WorkerGroup, WorkerState
from .http_messages import Answer
from .http_server import HttpServer

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ECHO_S = 0.5
"""How long an answer waits for the loop: Kubernetes gives a probe one second."""

MIN_TIMEOUT_S = 60.0


class HealthCheckServer:
    """Answers ``GET /healthz`` by what a callback says.

    Args:
        alive_callback: Returns when the agent made its last progress, in seconds since the epoch.
        port: Port to listen at; 0 for any that is free.
        timeout: Seconds without progress after which the agent counts as dead.
        address: Address to listen at.
    """

    def __init__(
        self,
        alive_callback: Callable[[], float],
        port: int,
        timeout: float,
        *,
        address: str = LOOPBACK,
    ) -> None:
        self._alive_callback = alive_callback
        self._port = port
        self._timeout = timeout
        self._address = address
        self._server = HttpServer(address, port, self._respond, ECHO_S)

    @property
    def alive_callback(self) -> Callable[[], float]:
        """What it was given."""
        return self._alive_callback

    @property
    def port(self) -> int:
        """The port; once it was started, a real one."""
        return self._port

    def start(self) -> None:
        """Begin to answer. Where the address can't be had, a warning says so, and that is all."""
        try:
            self._port = self._server.start()
        except OSError as error:
            log.warning(
                "nobody can ask for this agent's health: %s port %d can't be listened at: %s; "
                "give another one with %s",
                self._address,
                self._port,
                (error.strerror or str(error)).partition(" (while")[0],
                HEALTH_CHECK_PORT,
            )
            return
        log.info("health: http://%s:%d/healthz", self._address, self._port)

    def stop(self) -> None:
        """Hang up, and give the port back."""
        self._server.stop()

    def answer(self, path: str, asked_at: float, is_last_chance: bool) -> Answer | None:  # noqa: ARG002
        """Answer a question, or return None: the server asks again.

        Args:
            path: What is asked for.
            asked_at: When, by ``time.monotonic()``.
            is_last_chance: Whether there must be an answer now.
        """
        if path != "/healthz":
            return Answer(404, "ask for /healthz\n")
        silence_s = max(0.0, time.time() - self._alive_callback())
        if silence_s <= self._timeout:
            return Answer(200, "ok\n")
        return Answer(503, f"no progress for {silence_s:.0f} s\n")

    def _respond(self, path: str, asked_at: float, is_last_chance: bool) -> Answer | None:
        try:
            return self.answer(path, asked_at, is_last_chance)
        except Exception as error:  # noqa: BLE001  the callback is anybody's; the server goes on
            log.warning("health: %s can't be answered: %r", path, error)
            return Answer(500, f"there is no answer: {error!r}\n")


def create_healthcheck_server(
    alive_callback: Callable[[], float], port: int, timeout: float
) -> HealthCheckServer:
    """Return a server for the loopback address; see ``HealthCheckServer``."""
    return HealthCheckServer(alive_callback, port, timeout)


class AgentHealth(HealthCheckServer):
    """Answers ``/healthz``, ``/readyz`` and ``/status`` by what the agent's own loop says.

    Args:
        address: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        timeout_s: How long the loop may leave a question open.
        wake: Wakes the loop, which then calls ``echo``.
        look: Returns what ``/status`` shows; it is called in the server's thread.
    """

    def __init__(
        self,
        address: str,
        port: int,
        timeout_s: float,
        wake: Callable[[], None],
        look: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(self._last_answer_time, port, timeout_s, address=address)
        self._wake_loop = wake
        self._look = look
        self._open_since: float | None = None
        self._echoed_at = -math.inf

    def echo(self) -> None:
        """Answer whatever is open; the loop calls this at every turn."""
        if self._open_since is not None:
            self._open_since = None  # before the time is taken: who asks from now on asks anew
            self._echoed_at = time.monotonic()
            self._server.recheck()

    def answer(self, path: str, asked_at: float, is_last_chance: bool) -> Answer | None:
        if path not in ("/healthz", "/readyz", "/status"):
            return Answer(404, "ask for /healthz, /readyz or /status\n")
        has_echoed = self._echoed_at >= asked_at
        if not has_echoed and self._open_since is None:
            self._open_since = asked_at
            self._wake_loop()
        if not (has_echoed or is_last_chance):
            return None
        if path == "/healthz":
            return super().answer(path, asked_at, is_last_chance)
        if path == "/readyz":
            return self._readiness(has_echoed=has_echoed)
        status = {**self._look(), "busy_s": 0.0 if has_echoed else round(self._silence_s, 3)}
        return Answer(200, json.dumps(status) + "\n", "application/json")

    def _readiness(self, *, has_echoed: bool) -> Answer:
        if not has_echoed:
            return Answer(503, f"the agent has been busy for {self._silence_s:.1f} s\n")
        seen = self._look()
        if not seen["is_ready"]:
            return Answer(503, f"no workers run: their state is {seen['state']}\n")
        return Answer(200, "ok\n")

    @property
    def _silence_s(self) -> float:
        open_since = self._open_since
        return 0.0 if open_since is None else time.monotonic() - open_since

    def _last_answer_time(self) -> float:
        return time.time() - self._silence_s


def start_health(
    said: str,
    shutdown_timeout_s: float,
    wake: Callable[[], None],
    look: Callable[[], Mapping[str, Any]],
) -> AgentHealth | None:
    """Start answering where the user asked for it; a warning says why it can't be.

    Args:
        said: What ``TORCHELASTIC_HEALTH_CHECK_PORT`` says: ``PORT`` or ``ADDRESS:PORT``.
        shutdown_timeout_s: How long the loop may be busy with stopping workers.
        wake: Wakes the loop.
        look: Returns what ``/status`` shows; it is called in the server's thread.
    """
    try:
        address, port = parse_address(said)
    except ValueError as error:
        log.warning("nobody can ask for this agent's health: %s", error)
        return None
    health = AgentHealth(address, port, MIN_TIMEOUT_S + shutdown_timeout_s, wake, look)
    health.start()
    return health


def parse_address(said: str) -> tuple[str, int]:
    """Return the address and the port that ``TORCHELASTIC_HEALTH_CHECK_PORT`` names.

    Args:
        said: ``8080``, which is for this host alone, or ``0.0.0.0:8080``, ``[::]:8080``.

    Raises:
        ValueError: It is neither.
    """
    said = said.strip()
    text = f"{LOOPBACK}:{said}" if said.isdigit() else said
    try:
        endpoint = parse_endpoint(text, default_port=-1)
    except ValueError:
        endpoint = None
    if endpoint is None or endpoint.port < 0:
        raise ValueError(
            f"{HEALTH_CHECK_PORT}={said[:100]!r} is no address: give PORT or ADDRESS:PORT"
        )
    return endpoint.host, endpoint.port


def describe(
    group: WorkerGroup, *, run_id: str, round_number: int | None, restarts: int
) -> dict[str, Any]:
    """Return what ``/status`` shows of an agent.

    Args:
        group: Its worker group.
        run_id: The job's name.
        round_number: Number of its latest round; None before the first.
        restarts: Restarts that the job has spent.
    """
    is_running = WorkerState.is_running(group.state)
    return {
        "run_id": run_id,
        "round": round_number,
        "restarts": restarts,
        "max_restarts": group.spec.max_restarts,
        "state": group.state.value,
        "is_ready": is_running,
        "role": group.spec.role,
        "group_rank": group.group_rank,
        "group_world_size": group.group_world_size,
        "workers": [
            {
                "local_rank": worker.local_rank,
                "global_rank": worker.global_rank,
                "role_rank": worker.role_rank,
                "pid": worker.id if is_running else None,
            }
            for worker in group.workers
        ],
        "world_size": group.workers[0].world_size,
    }
