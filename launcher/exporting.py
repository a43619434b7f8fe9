"""Lets Prometheus have a job's numbers: at a port (``--metrics-port``), in a file, or both."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..agent.output.whole_file import WholeFile
from ..agent.serving.http_messages import Answer
from ..agent.serving.http_server import HttpServer
from ..agent.serving.listeners import listen_at_port, shown_host
from ..rendezvous.errors import UsageError
from ..rendezvous.logs import Log
from ..rendezvous.threads import NoThreadError, start_daemon
from .commandline.listen_address import parse_listen_address
from .commandline.report_path import filled_in
from .commandline.version import __version__

if TYPE_CHECKING:
    from ..agent.elastic.local import LocalElasticAgent
    from ..agent.elastic.open_metrics import JobMetrics
    from .plan.config import LaunchConfig

log = Log(__name__)

PAUSE_S = 15.0
"""The time between two versions of the file: Prometheus asks that often as a rule."""

PATH = "/metrics"
_BEGINNING = b"# HELP elrun_"
_PACKAGE = "prometheus_client"


@contextlib.contextmanager
def exported(config: LaunchConfig, agent: LocalElasticAgent) -> Iterator[None]:
    """Let Prometheus have the numbers of a job while the body runs it.

    Args:
        agent: The agent, which does not run yet.

    Raises:
        UsageError: The library is missing, or the file can't be written.
    """
    try:
        from ..agent.elastic.open_metrics import JobMetrics  # imports the library
    except ImportError as error:
        if (error.name or "").partition(".")[0] != _PACKAGE:
            raise
        option = "--metrics-port" if config.metrics_port else "--metrics-file"
        raise UsageError(
            f"{option} needs the package prometheus-client: pip install 'elrun[metrics]'"
        ) from error
    group, rounds = agent.get_worker_group(), agent.rounds
    metrics = JobMetrics(
        group, rounds.get_run_id(), __version__, agent.processes.printed_bytes, rounds.beat_age_s
    )
    with contextlib.ExitStack() as ends:
        if config.metrics_file:
            ends.enter_context(_kept_in_file(filled_in(config.metrics_file), metrics))
        if config.metrics_port:
            ends.enter_context(_served(config.metrics_port, metrics))
        agent.observe(metrics)
        try:
            yield
        finally:
            metrics.finish()


@contextlib.contextmanager
def _served(where: str, metrics: JobMetrics) -> Iterator[None]:
    from ..agent.elastic.open_metrics import OPEN_METRICS  # see above

    def respond(path: str, _asked_at: float, _is_last_chance: bool) -> Answer:
        if path != PATH:
            return Answer(404, f"ask for {PATH}\n")
        return Answer(200, metrics.open_metrics(), OPEN_METRICS)

    address = parse_listen_address(where)
    server = HttpServer(lambda: listen_at_port(*address), respond)
    try:
        listener = server.start()
    except OSError as error:
        log.warning(
            "nobody can ask for this job's metrics: %s can't be listened at: %s (--metrics-port)",
            where,
            (error.strerror or str(error)).partition(" (while")[0],
        )
    else:
        # A port that was chosen for the user is known from here alone.
        tell = log.info if address[1] else log.warning
        tell("metrics: http://%s:%d%s", shown_host(address[0]), listener.getsockname()[1], PATH)
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _kept_in_file(path: str, metrics: JobMetrics) -> Iterator[None]:
    file = WholeFile(path, "the file of metrics")
    try:
        file.write_first(metrics.prometheus_text(), begins_with=_BEGINNING)
    except OSError as error:
        raise UsageError(
            f"no metrics can be kept in {path}: {error.strerror} (--metrics-file)"
        ) from error
    is_over, order = threading.Event(), threading.Lock()

    def write_now_and_then() -> None:
        while not is_over.wait(PAUSE_S):
            text = metrics.prometheus_text()
            with order:
                if not is_over.is_set():  # else newer numbers stand there
                    file.write(text)

    with contextlib.suppress(NoThreadError):  # the last version is written all the same
        start_daemon(write_now_and_then, "elrun-metrics")
    try:
        yield
    finally:
        with order:
            is_over.set()
        file.write(metrics.prometheus_text())
        file.settle()
