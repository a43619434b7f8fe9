"""The health page: answers over HTTP whether the agent's loop lives and whether its workers run.

The loop may sleep for hours, so the time of its last turn says nothing. Instead a request wakes the
loop, and the loop's echo shows that it lives. A busy loop, such as one that stops workers, echoes
late. So an answer waits for the echo only for a moment; the agent counts as dead when the loop has
not echoed a request within the time-out.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...rendezvous.logs import Log
from ...rendezvous.network.addresses import parse_endpoint
from ..processes.companion import Companion
from ..serving.http_messages import Answer
from ..serving.http_server import HttpServer
from ..serving.listeners import listen_at_port, shown_host
from ..workers.environment import HEALTH_CHECK_PORT
from ..workers.worker import WorkerGroup, WorkerState

log = Log(__name__)

LOOPBACK = "127.0.0.1"
ECHO_S = 0.5
"""How long an answer waits for the loop's echo; Kubernetes gives a probe one second."""

MIN_TIMEOUT_S = 60.0


class HealthCheckServer:
    """Answers ``GET /healthz`` from a callback.

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
        self._server = HttpServer(partial(listen_at_port, address, port), self.answer, ECHO_S)

    @property
    def alive_callback(self) -> Callable[[], float]:
        """The callback that the constructor got."""
        return self._alive_callback

    @property
    def port(self) -> int:
        """The port; after ``start`` the real one, also where 0 was given."""
        return self._port

    def start(self) -> None:
        """Start to answer; if the address is not free, log a warning and do nothing."""
        tell = log.info if self._port else log.warning  # nothing else tells which port it is
        try:
            self._port = int(self._server.start().getsockname()[1])
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
        tell("health: http://%s:%d/healthz", shown_host(self._address), self._port)

    def stop(self) -> None:
        """Close all connections and the port."""
        self._server.stop()

    def answer(self, path: str, asked_at: float, is_last_chance: bool) -> Answer | None:
        """Return the answer to a request; None: the server calls this again later.

        Args:
            path: The path of the request.
            asked_at: When the request came, by ``time.monotonic()``.
            is_last_chance: Whether None is not allowed.
        """
        if path != "/healthz":
            return Answer(404, "ask for /healthz\n")
        silence_s = max(0.0, time.time() - self._alive_callback())
        if silence_s <= self._timeout:
            return Answer(200, "ok\n")
        return Answer(503, f"no progress for {silence_s:.0f} s\n")


def create_healthcheck_server(
    alive_callback: Callable[[], float], port: int, timeout: float
) -> HealthCheckServer:
    """Return a server for the loopback address; see ``HealthCheckServer``."""
    return HealthCheckServer(alive_callback, port, timeout)


class AgentHealth(HealthCheckServer, Companion):
    """Answers ``/healthz``, ``/readyz`` and ``/status`` from the state of the agent's loop.

    Args:
        port: Port to listen at; 0 for any that is free.
        timeout_s: How long the loop may take for its echo.
        wake: Wakes the loop, which then calls ``tick``.
        look: Returns the content of ``/status``; called in the server's thread.
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

    def tick(self) -> None:
        """Answer the open requests; the loop calls this at every turn."""
        if self._open_since is not None:
            self._open_since = None  # first: a request that comes now must wake the loop again
            self._echoed_at = time.monotonic()
            self._server.recheck()

    def end(self) -> None:
        """Answer nobody any more."""
        self.stop()

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
    value: str,
    shutdown_timeout_s: float,
    wake: Callable[[], None],
    look: Callable[[], Mapping[str, Any]],
) -> AgentHealth | None:
    """Start the health page that the user asked for; log a warning if that fails.

    Args:
        value: Value of ``TORCHELASTIC_HEALTH_CHECK_PORT``: ``PORT`` or ``ADDRESS:PORT``.
        shutdown_timeout_s: How long the loop may be busy with a stop of workers.
        look: Returns the content of ``/status``; called in the server's thread.
    """
    try:
        address, port = parse_address(value)
    except ValueError as error:
        log.warning("nobody can ask for this agent's health: %s", error)
        return None
    health = AgentHealth(address, port, MIN_TIMEOUT_S + shutdown_timeout_s, wake, look)
    health.start()
    return health


def parse_address(value: str) -> tuple[str, int]:
    """Return the address and the port that ``TORCHELASTIC_HEALTH_CHECK_PORT`` names.

    Args:
        value: ``8080`` for the loopback address, or ``0.0.0.0:8080``, ``[::]:8080``.

    Raises:
        ValueError: The value is neither.
    """
    value = value.strip()
    text = f"{LOOPBACK}:{value}" if value.isdigit() else value
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        endpoint = None
    if endpoint is None or not endpoint.has_port:
        raise ValueError(
            f"{HEALTH_CHECK_PORT}={value[:100]!r} is no address: give PORT or ADDRESS:PORT"
        )
    return endpoint.host, endpoint.port


def describe(
    group: WorkerGroup, *, run_id: str, round_number: int | None, restarts: int
) -> dict[str, Any]:
    """Return the content of ``/status``.

    Args:
        group: The agent's worker group.
        run_id: The job's name.
        round_number: Number of the latest round; None before the first.
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
