"""Has a job's report kept in a file (``--report``), with how the job ended on this node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..agent.elastic.observer import NOBODY, Observer
from ..agent.elastic.report_file import ReportFile
from ..agent.failures.failure import ChildFailedError
from ..agent.output.run_folders import RunFile
from ..agent.output.whole_file import WholeFile
from ..agent.system.signals import SignalException
from ..rendezvous.errors import RendezvousError, UsageError
from ..rendezvous.logs import Log
from .commandline.report_path import filled_in
from .commandline.version import __version__
from .report_claim import claimed
from .terminal.exit_codes import ExitCode, exit_code_of_signal, exit_code_of_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..agent.elastic.local import LocalElasticAgent
    from ..agent.elastic.observer import Heard, Moment
    from .commandline.arguments import Given
    from .plan.config import LaunchConfig

log = Log(__name__)

# Not the backend's settings: they may hold passwords.
_OF_CONFIG = (
    "min_nodes",
    "max_nodes",
    "nproc_per_node",
    "role",
    "rdzv_backend",
    "rdzv_endpoint",
    "max_restarts",
    "start_method",
    "signals_to_handle",
    "shutdown_timeout",
    "exit_barrier_timeout",
)


@contextmanager
def reported(
    path: str, config: LaunchConfig, agent: LocalElasticAgent, name: str
) -> Iterator[None]:
    """Keep a report of what an agent does while the body runs it.

    Args:
        path: The file.
        config: How the job was launched.
        agent: The agent, which does not run yet.
        name: What is run.

    Raises:
        UsageError: The file can't be written.
    """
    path = filled_in(path)
    with ExitStack() as ends:
        try:
            ends.enter_context(claimed(path))
            files = [WholeFile(path, "the report"), *_file_of_run(agent)]
            report = ReportFile(files, _about(config, agent, name), agent.get_worker_group())
            report.begin()
        except OSError as error:
            what = f"no report can be kept in {path}: {error.strerror} (--report)"
            raise UsageError(what) from error
        agent.observe(report)
        try:
            yield
        except BaseException as error:
            finish(report, error)
            raise
        finish(report, None)


def report_of_run(
    config: LaunchConfig,
    agent: LocalElasticAgent,
    name: str,
    began_at: Moment,
    heard: Sequence[Heard],
) -> Observer:
    """Return a report that is kept in the run's folder; nobody hears where there is to be none.

    Args:
        config: How the job was launched.
        agent: The agent, which runs already.
        name: What is run.
        began_at: When the job began.
        heard: What the agent has done so far.
    """
    files = _file_of_run(agent)
    if not files:
        return NOBODY
    about, group = _about(config, agent, name), agent.get_worker_group()
    report = ReportFile(files, about, group, began_at)
    report.replay(heard)
    return report


def _file_of_run(agent: LocalElasticAgent) -> list[RunFile]:
    """Return the report's file in the run's folder, which is made with its first version."""
    folder = agent.run_folder()
    if folder is None:
        return []
    return [RunFile(folder, "report.json", "the run's report (ELRUN_RUN_DIR)")]


def _about(config: LaunchConfig, agent: LocalElasticAgent, name: str) -> dict[str, Any]:
    return {
        "elrun": __version__,
        "run_id": agent.get_worker_group().spec.rdzv_handler.get_run_id(),
        "name": name,
        "config": {field: _jsonable(getattr(config, field)) for field in _OF_CONFIG},
    }


def report_refusal(given: Given, reason: str) -> None:
    """Write the report of a job that is refused for its options; what can't be written is not.

    Args:
        given: The options, among them ``--report``.
        reason: Why they can't be used.
    """
    nodes = given["nnodes"]
    about: dict[str, Any] = {
        "elrun": __version__,
        "run_id": given["rdzv_id"] or "",
        "name": "".join(given.command[:1]),
        "config": {
            "min_nodes": nodes.minimum,
            "max_nodes": nodes.maximum,
            "rdzv_backend": given["rdzv_backend"],
            "rdzv_endpoint": given["rdzv_endpoint"] or "",
        },
    }
    path = filled_in(given["report"])
    report = ReportFile([WholeFile(path, "the report")], about)
    try:
        report.begin()
    except OSError as error:
        log.info("no report is kept in %s: %s", path, error.strerror)
        return
    report.finish("refused", ExitCode.BAD_USAGE, reason)


def finish(report: Observer, error: BaseException | None) -> None:
    """Write the last version of a report.

    Args:
        report: The report.
        error: What ended the job; None: it has succeeded.
    """
    if not isinstance(report, ReportFile):
        return
    match error:
        case None:
            report.finish("succeeded", ExitCode.SUCCESS, "")
        case ChildFailedError():
            _, first = error.get_first_failure()
            reason = first.summary if error.report is None else error.report.root.reason
            code = exit_code_of_worker(first.exitcode)
            report.finish("failed", code, reason, error.report)
        case SignalException():
            report.finish("stopped", exit_code_of_signal(error.sigval), str(error))
        case RendezvousError():
            report.finish("rendezvous failed", ExitCode.RENDEZVOUS_FAILED, str(error))
        case UsageError():
            report.finish("refused", ExitCode.BAD_USAGE, str(error))
        case _:
            report.finish("fault", ExitCode.FAULT, f"{type(error).__name__}: {error}")


def _jsonable(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else str(value)
