"""The composition root: a launch config becomes a rendezvous, an agent, and results."""

from __future__ import annotations

import contextlib
import sys

from ..agent.elastic.facts import Supervision
from ..agent.elastic.local import LocalElasticAgent
from ..agent.elastic.observer import NOBODY, LateObserver, recorded_outcome
from ..agent.failures.failure import ChildFailedError
from ..agent.output.log_relay import relayed_logs
from ..agent.output.specs import DefaultLogsSpecs
from ..agent.system.signals import SignalException, parse_signals
from ..agent.workers.worker import RunResult, WorkerSpec
from ..rendezvous.api.handler import RendezvousHandler, RoundHandler
from ..rendezvous.api.parameters import ENTRYPOINT, Kind, require
from ..rendezvous.errors import RendezvousError, UsageError
from ..rendezvous.logs import Log
from .commandline.environment import Environment, tell_later_agents, variables_set
from .meeting import leave, meet, run_id_of, tell_refusal
from .plan.config import ChosenText, LaunchConfig
from .plan.plan import Plan
from .plan.program import get_entrypoint_name
from .terminal.console import Console, fill_closed_streams, logging_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..agent.elastic.observer import Heard, Moment, Observer
    from ..agent.monitoring.health import HealthCheckServer
    from ..agent.system.signals import Handler

    Launch = Callable[[LaunchConfig, Callable[..., Any] | str, list[Any]], object]
    """What runs an agent: ``launch_agent``, or what stands for it."""

log = Log(__name__)


_CONFIG = Kind(("to_launch",), "elrun's LaunchConfig")
_SERVER = Kind(("stop",), "a health check server")
_ARGS = Kind(("__class_getitem__",), "a list")

# What a worker group's spec has from the config under the same name.
_OF_BOTH = (
    "role",
    "max_restarts",
    "monitor_interval",
    "local_addr",
    "event_log_handler",
    "numa_options",
    "duplicate_stdout_filters",
    "duplicate_stderr_filters",
    "virtual_local_rank",
    "restart_rules",
)


class elastic_launch:
    """Launches workers on this node, together with the other nodes that launch the same.

    ::

        outputs = elastic_launch(config, train)("--lr", 0.1)   # a function: {global rank: value}
        elastic_launch(config, "python")("train.py")           # a command: no values

    Args:
        config: How to launch.
        entrypoint: A function, or a command.
        health_check_server: A server of yours, started already; it is stopped when the job ends.
    """

    def __init__(
        self,
        config: LaunchConfig,
        entrypoint: Callable[..., Any] | str | None,
        health_check_server: HealthCheckServer | None = None,
    ) -> None:
        self._config = config
        self._entrypoint = entrypoint
        self._health_check_server = health_check_server

    def __call__(self, *args: Any) -> dict[int, Any]:
        """Launch, and return what ``launch_agent`` returns."""
        server = self._health_check_server
        return launch_agent(self._config, self._entrypoint, list(args), server)


def launch_agent(
    config: LaunchConfig,
    entrypoint: Callable[..., Any] | str | None,
    args: list[Any],
    health_check_server: HealthCheckServer | None = None,
    *,
    signal_handler_afterwards: Handler | None = None,
) -> dict[int, Any]:
    """Run an agent until the job has ended.

    ``TORCHELASTIC_SIGNALS_TO_HANDLE`` says from then on which signals end the job, here and in the
    workers: agents that programs make themselves go by it.

    Args:
        config: How to launch. If it has no ``run_id``, the job's is put there.
        entrypoint: A function, or a command.
        args: What it is called with, the same for every worker.
        health_check_server: See ``elastic_launch``.
        signal_handler_afterwards: What handles the job's ending signals from the moment when the
            agent no longer does; by default what handled them before.

    Returns:
        What the function returned on each of this node's workers, by global rank.

    Raises:
        ChildFailedError: A worker failed and the restarts are spent.
        SignalException: A signal stopped this agent.
        RendezvousError: The nodes could not meet, or the store was lost.
        UsageError: The config or the entrypoint can't be used; a ValueError.
    """
    if _is_being_spawned():
        raise UsageError(
            'a worker that imports this program launches again; launch under "if __name__ == '
            "'__main__':\""
        )
    fill_closed_streams()
    with _values_refused():
        _require_kinds(config, entrypoint, args, health_check_server)
        given, config = config, config.to_launch()
        if type(config.logs_specs) is DefaultLogsSpecs:  # what a subclass keeps, we can't know
            config.logs_specs = config.logs_specs.for_one_job()
        if callable(entrypoint):
            from .sendable import require_sendable  # few jobs

            require_sendable(entrypoint, config.start_method)
        run_id = run_id_of(config)
        handler, spec = _compose(config, run_id, entrypoint, args)
    if not config.run_id:
        given.run_id = ChosenText(run_id)
    tell_later_agents(config.signals_to_handle)
    with _values_refused(), _refusals_told(handler):
        agent = LocalElasticAgent(
            spec,
            config.logs_specs,
            start_method=config.start_method,
            log_line_prefix_template=config.log_line_prefix_template,
            exit_barrier_timeout=config.exit_barrier_timeout,
            shutdown_timeout=config.shutdown_timeout,
            health_check_server=health_check_server,
            signals_to_handle=config.signals_to_handle,
            signal_handler_afterwards=signal_handler_afterwards,
            supervision=_supervision_by(config),
        )
    # Signals that come again while the run is being left must not cut that short, nor may a
    # console that takes nothing hold it up.
    name = get_entrypoint_name(entrypoint, args)
    with contextlib.ExitStack() as ends:
        for context in (agent.signals, relayed_logs(), recorded_outcome(agent)):
            ends.enter_context(context)
        with _refusals_told(handler):
            _watch(agent, config, name, ends)
        return _run(agent, handler, config, name)


def _watch(
    agent: LocalElasticAgent, config: LaunchConfig, name: str, ends: contextlib.ExitStack
) -> None:
    """Let those see what the agent does that the user wants to see it, until ``ends`` closes."""
    if config.metrics_port or config.metrics_file:
        from .exporting import exported  # few jobs

        ends.enter_context(exported(config, agent))
    if (environment := Environment.current()).has_collector:
        from .telemetry import traced  # few jobs

        ends.enter_context(traced(environment.variables, agent, name))
    ends.enter_context(_reported(config, agent, name))


def _reported(
    config: LaunchConfig, agent: LocalElasticAgent, name: str
) -> contextlib.AbstractContextManager[None]:
    if not config.report:
        return _kept(config, agent, name)
    from .reporting import reported  # few jobs

    return reported(config.report, config, agent, name)


@contextlib.contextmanager
def _kept(config: LaunchConfig, agent: LocalElasticAgent, name: str) -> Iterator[None]:
    """Keep a report in the run's folder: of a job that takes longer, fails, or restarts."""

    def make(began_at: Moment, heard: Sequence[Heard]) -> Observer:
        try:
            from .reporting import report_of_run  # not a short success
        except (OSError, ImportError) as error:  # there is no descriptor to read the module with
            log.info("no report of this run is kept: %s", error)
            return NOBODY
        return report_of_run(config, agent, name, began_at, heard, record.ends_before)

    record = LateObserver(make, agent.get_worker_group(), end_reader=agent.processes.end_reader)
    agent.keep(record)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        is_refused = isinstance(error, UsageError)
        has_failed = error is not None and not is_refused
        if not (record.has_record or record.attempts > 1 or has_failed):
            agent.folder.discard()
        elif (report := record.record()) is not NOBODY:
            from .reporting import finish

            finish(report, error)


@contextlib.contextmanager
def _values_refused() -> Iterator[None]:
    """Refuse what the body can't take as a value."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from fault_behind(error)


def fault_behind(refusal: Exception) -> BaseException | None:
    """Return a fault in another package's code that led to a refusal; a value says all itself."""
    cause = refusal.__cause__
    return None if isinstance(cause, (ValueError, OSError)) else cause


def _supervision_by(config: LaunchConfig) -> Supervision:
    return Supervision(
        preload=tuple(config.preload),
        forward_signals=parse_signals(config.forward_signals),
        preempt_signals=parse_signals(config.preempt_signal),
        signal_to=config.signal_to,
        grace_s=config.grace,
        hang_timeout_s=config.hang_timeout,
        hang_log_pattern=config.hang_log_pattern,
        timeout_s=config.timeout,
        health_check=config.health_check,
        health_check_timeout_s=config.health_check_timeout,
    )


def launch_plan(
    plan: Plan, environment: Environment, console: Console, launch: Launch = launch_agent
) -> None:
    """Run what a command line asks for, until the job has ended.

    Args:
        environment: Says how much of elrun's own log is shown.
        console: Where elrun speaks.

    Raises:
        Refusal: The script can't be read from standard input.
        Exception: What ``launch_agent`` raises.
    """
    for notice in plan.notices:
        console.notice(notice)
    plan.config.origins = plan.given.origins()
    log_lines = logging_to(console, environment.log_level)
    variables, script = variables_set(plan.variables), _script_on_input(plan, console)
    with log_lines, console.live(), variables, script:
        launch(plan.config, plan.program.entrypoint, plan.program.args)


def _script_on_input(plan: Plan, console: Console) -> contextlib.AbstractContextManager[None]:
    if not plan.program.is_on_input:
        return contextlib.nullcontext()
    from .plan.stdin_script import script_for_each_worker  # few scripts stand there

    return script_for_each_worker(console)


def _require_kinds(
    config: LaunchConfig,
    entrypoint: Callable[..., Any] | str | None,
    args: list[Any],
    health_check_server: HealthCheckServer | None,
) -> None:
    require(_CONFIG, config=config)
    require(ENTRYPOINT, entrypoint=entrypoint or None)
    require(_ARGS, args=args)
    require(_SERVER, or_none=True, health_check_server=health_check_server)


def _is_being_spawned() -> bool:
    """Return whether this is a process of ``multiprocessing``'s that is still about to begin."""
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def _run(
    agent: LocalElasticAgent, handler: RendezvousHandler, config: LaunchConfig, name: str
) -> dict[int, Any]:
    may_leave, is_stopped, result = True, False, None
    try:
        result = agent.run()
    except SignalException:
        # The other nodes may go on without this one. elrun's own handlers leave the run open for
        # them; others would close it.
        may_leave = isinstance(handler, RoundHandler)
        is_stopped = True
        raise
    except Exception as error:
        if not isinstance(error, RendezvousError):
            _decline(handler, error)
        raise
    finally:
        if may_leave:
            leave(handler)
        if isinstance(config.logs_specs, DefaultLogsSpecs):
            _clean_up(config.logs_specs, agent, result, is_stopped=is_stopped)
    if result.is_failed():
        report = result.report and result.report._replace(name=name)
        raise ChildFailedError(name, result.failures, report)
    return result.return_values


def _clean_up(
    specs: DefaultLogsSpecs,
    agent: LocalElasticAgent,
    result: RunResult | None,
    *,
    is_stopped: bool,
) -> None:
    """Remove log files that nobody needs, or name them, as the report of a failure does."""
    has_failed = result is not None and result.is_failed()
    has_succeeded = result is not None and not has_failed
    folder = specs.cleanup(
        copied=has_succeeded and agent.has_shown_all_output,
        in_use=agent.log_files_are_in_use,
        stopped=is_stopped,
    )
    if folder and not has_failed:
        log.warning("log files are in %s", folder)


def _compose(
    config: LaunchConfig,
    run_id: str,
    entrypoint: Callable[..., Any] | str | None,
    args: list[Any],
) -> tuple[RendezvousHandler, WorkerSpec]:
    if config.metrics_cfg:
        from ..agent.metrics import MetricsConfig, initialize_metrics  # few jobs

        initialize_metrics(MetricsConfig(config.metrics_cfg))
    handler, master_addr, master_port = meet(config, run_id)
    spec = WorkerSpec(
        local_world_size=config.nproc_per_node,
        entrypoint=entrypoint,
        args=tuple(args),
        rdzv_handler=handler,
        master_addr=master_addr,
        master_port=master_port,
        **{name: getattr(config, name) for name in _OF_BOTH},
    )
    return handler, spec


@contextlib.contextmanager
def _refusals_told(handler: RendezvousHandler) -> Iterator[None]:
    """Tell the other nodes why this one can't take part, where the body refuses the job."""
    try:
        yield
    except ValueError as error:
        _decline(handler, error)
        leave(handler)
        raise


def _decline(handler: RendezvousHandler, error: Exception) -> None:
    tell_refusal(handler, str(error) or type(error).__name__, log.warning)
