"""Has a job's report kept in a file (``--report``), with how the job ended on this node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..agent.elastic.history import History
from ..agent.elastic.observer import NOBODY, Moment, Observer
from ..agent.elastic.observers import Observers
from ..agent.elastic.output_keeper import OutputKeeper
from ..agent.elastic.report_file import ReportFile
from ..agent.failures.failure import ChildFailedError
from ..agent.output.run_folders import RunFile, RunFolder
from ..agent.output.whole_file import WholeFile
from ..agent.system.signals import Preempted, SignalException
from ..agent.workers.worker import script_of
from ..rendezvous.errors import RendezvousError, UnfitNodeError, UsageError
from ..rendezvous.logs import Log
from ..rendezvous.named_tuple import NamedTuple
from .commandline.environment import Environment
from .commandline.report_path import filled_in
from .commandline.version import __version__
from .terminal.process_end import ExitCode, exit_code_of_stop, exit_code_of_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..agent.elastic.local import LocalElasticAgent
    from ..agent.elastic.observer import Ends, Heard
    from ..agent.failures.report import JobReport
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


class RunRecord(Observers):
    """What is kept of a run: its report, its history, and the end of its output.

    Args:
        history: The history; None: none is kept.
        output: Keeps the end of the output; None: nothing does.
    """

    def __init__(
        self, report: ReportFile, history: History | None, output: OutputKeeper | None
    ) -> None:
        super().__init__(report, *filter(None, [history, output]))
        self.report = report
        self._history = history
        self._output = output

    def replay(self, heard: Sequence[Heard], ends_before: Ends) -> None:
        """Take what an agent has done so far; see ``OutputKeeper.replay``."""
        self.report.replay(heard)
        if self._history is not None:
            self._history.replay(heard)
        if self._output is not None:
            self._output.replay(heard, ends_before)

    def finish(
        self, state: str, exit_code: int, reason: str, report: JobReport | None = None
    ) -> None:
        """Write the end of all; see ``ReportFile.finish``, after which the run counts as ended."""
        if self._output is not None:
            self._output.finish()
        if self._history is not None:
            self._history.finish(state, exit_code, reason)
        self.report.finish(state, exit_code, reason, report)


@contextmanager
def reported(
    path: str, config: LaunchConfig, agent: LocalElasticAgent, name: str
) -> Iterator[None]:
    """Keep a report of what an agent does while the body runs it.

    Args:
        config: How the job was launched.
        agent: The agent, which does not run yet.

    Raises:
        UsageError: The file can't be written.
    """
    from .report_claim import claimed  # not for the report in the run's folder

    path = filled_in(path)
    with ExitStack() as ends:
        try:
            ends.enter_context(claimed(path))
            folder, began_at = agent.folder.keep(), Moment.now()
            files = [WholeFile(path, "the report"), *_files_in(folder)]
            about, group = _about(config, agent, name), agent.get_worker_group()
            report = ReportFile(files, about, group, began_at)
            report.begin()
        except OSError as error:
            what = f"no report can be kept in {path}: {error.strerror} (--report)"
            raise UsageError(what) from error
        record = _record(report, config, agent, folder, began_at)
        agent.observe(record)
        try:
            yield
        except BaseException as error:
            finish(record, error)
            raise
        finish(record, None)


def report_of_run(
    config: LaunchConfig,
    agent: LocalElasticAgent,
    name: str,
    began_at: Moment,
    heard: Sequence[Heard],
    ends_before: Ends,
) -> Observer:
    """Return what is kept in the run's folder; nobody hears where there is to be none.

    Args:
        config: How the job was launched.
        agent: The agent, which runs already.
        heard: What the agent has done so far.
        ends_before: What ranks of the attempt before the latest one have printed last.
    """
    folder = agent.folder.keep()
    if folder is None:
        return NOBODY
    about, group = _about(config, agent, name), agent.get_worker_group()
    report = ReportFile(_files_in(folder), about, group, began_at)
    record = _record(report, config, agent, folder, began_at)
    record.replay(heard, ends_before)
    return record


def _files_in(folder: RunFolder | None) -> list[RunFile]:
    if folder is None:
        return []
    return [RunFile(folder, "report.json", "the run's report (ELRUN_RUN_DIR)")]


def _record(
    report: ReportFile,
    config: LaunchConfig,
    agent: LocalElasticAgent,
    folder: RunFolder | None,
    began_at: Moment,
) -> RunRecord:
    if folder is None or not config.history:
        return RunRecord(report, None, None)
    from ..agent.monitoring.history_recorder import HistoryRecorder  # not always
    from ..agent.monitoring.samples import Sampler
    from ..agent.output.history_file import HistoryFile

    rounds = agent.rounds
    sampler = Sampler(
        Environment.current().variables, agent.processes.printed_bytes, rounds.beat_age_s
    )
    recorder = HistoryRecorder(
        HistoryFile(folder), sampler, lambda: Moment.now().on_clock_of(began_at)
    )
    history = History(recorder, agent.get_worker_group(), began_at)
    return RunRecord(report, history, OutputKeeper(folder, agent.processes.end_reader))


def _about(config: LaunchConfig, agent: LocalElasticAgent, name: str) -> dict[str, Any]:
    spec = agent.get_worker_group().spec
    return {
        "elrun": __version__,
        "run_id": spec.rdzv_handler.get_run_id(),
        "name": name,
        "script": script_of(spec.entrypoint, spec.args),
        "config": {field: _jsonable(getattr(config, field)) for field in _OF_CONFIG},
        "options": dict(config.origins),
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
        "options": dict(given.origins()),
    }
    path = filled_in(given["report"])
    report = ReportFile([WholeFile(path, "the report")], about)
    try:
        report.begin()
    except OSError as error:
        log.info("no report is kept in %s: %s", path, error.strerror)
        return
    report.finish("refused", ExitCode.BAD_USAGE, reason)


class Outcome(NamedTuple):
    """How a job ended on this node.

    Args:
        state: One of the words of the report's schema.
        exit_code: elrun's.
        reason: Why, as a sentence; empty after a success.
        report: How each rank of the job ended, if workers failed.
    """

    state: str
    exit_code: int
    reason: str = ""
    report: JobReport | None = None


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how a job ended.

    Args:
        error: What ended the job; None: it has succeeded.
    """
    match error:
        case None:
            return Outcome("succeeded", ExitCode.SUCCESS)
        case ChildFailedError():
            _, first = error.get_first_failure()
            reason = first.summary if error.report is None else error.report.root.reason
            return Outcome("failed", exit_code_of_worker(first.exitcode), reason, error.report)
        case Preempted():
            reason = "; ".join([str(error), *error.failures])
            return Outcome("preempted", ExitCode.PREEMPTED, reason)
        case SignalException():
            return Outcome("stopped", exit_code_of_stop(error), str(error))
        case UnfitNodeError():
            reason = f"{error}\n{error.output}".strip()
            return Outcome("unfit node", ExitCode.UNFIT_NODE, reason)
        case RendezvousError():
            return Outcome("rendezvous failed", ExitCode.RENDEZVOUS_FAILED, str(error))
        case UsageError():
            return Outcome("refused", ExitCode.BAD_USAGE, str(error))
        case _:
            return Outcome("fault", ExitCode.FAULT, f"{type(error).__name__}: {error}")


def finish(report: Observer, error: BaseException | None) -> None:
    """Write the last version of a report.

    Args:
        error: What ended the job; None: it has succeeded.
    """
    if isinstance(report, RunRecord):
        report.finish(*outcome_of(error))


def _jsonable(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else str(value)
