"""From what the user gave to what is launched; every contradiction is found here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ...rendezvous.named_tuple import NamedTuple
from ..commandline.arguments import Given, Refusal, listed, nearest
from ..commandline.environment import Environment
from .config import DEFAULT_LAYOUT, LaunchConfig
from .meeting_point import choose_meeting, is_own
from .program import Program, choose_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from ...agent.failures.restart_rules import RestartRules
    from ...agent.hardware.devices import Count, Devices
    from ...agent.hardware.numa import NumaOptions
    from ...agent.output.specs import LogsSpecs
    from .meeting_point import Meeting

Counter = Callable[[str, Mapping[str, str]], "Count"]

_RESTART_OPTIONS = (
    "restart_on",
    "no_restart_on",
    "restart_delay",
    "restart_window",
    "restart_timeout",
    "fuse",
)
_OPTIONS_OF_RANKS = ("redirects", "tee", "local_ranks_filter")
_SENDERS_OF_SIGNALS = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST")
_USUALLY_FORWARDED = ("SIGUSR1", "SIGUSR2")
_KINDS_OF_GPUS = ("auto", "gpu", "xpu")
_MANY_WORKERS = 1_000  # from here on it is worth a look whether the system takes as many
_SCHEDULER_VARIABLES = (
    "SLURM_STEP_ID",
    "JOB_COMPLETION_INDEX",
    # A launcher of tasks, such as mpirun, sets one of these.
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "FLUX_JOB_SIZE",
    "JSM_NAMESPACE_SIZE",
    "MV2_COMM_WORLD_SIZE",
    *("PMIX_RANK", "WORLD_SIZE"),  # the latter in a pod, and in a worker
)


class Plan(NamedTuple):
    """What is launched on this node.

    Args:
        config: How.
        program: What each worker runs.
        notices: What the user should know, a sentence each.
        given: What the user gave, and beside it what the scheduler says.
        variables: What workers find in their environment because of ``--gpus``.
    """

    config: LaunchConfig
    program: Program
    notices: tuple[str, ...]
    given: Given
    variables: Mapping[str, str] = MappingProxyType({})


def compose(
    given: Given,
    environment: Environment,
    *,
    count: Counter | None = None,
    devices: Callable[[str], Devices] | None = None,
    backends: Callable[[], Sequence[str]] | None = None,
    is_checked: bool = True,
    is_rehearsal: bool = False,
) -> Plan:
    """Return what the user asked for.

    Args:
        given: The options and SCRIPT.
        environment: For what is no option.
        count: Counts the workers of a kind; by default this node's devices.
        devices: Reads this node's devices of a kind.
        backends: Says which rendezvous backends there are; by default the registry.
        is_checked: Whether the program must be there.
        is_rehearsal: Whether nothing will be launched, so that no folder is made.

    Raises:
        Refusal: It can't be launched. A mistake in an option goes before a script that is missing.
    """
    others: dict[str, Any] = {"count": count, "devices": devices, "backends": backends}
    try:
        program = choose_program(given, environment, is_checked=is_checked)
    except Refusal:
        program = choose_program(given, environment, is_checked=False)
        _compose(given, environment, program, **others, is_rehearsal=True)
        raise
    return _compose(given, environment, program, **others, is_rehearsal=is_rehearsal)


def _compose(
    given: Given,
    environment: Environment,
    program: Program,
    *,
    count: Counter | None,
    devices: Callable[[str], Devices] | None,
    backends: Callable[[], Sequence[str]] | None,
    is_rehearsal: bool,
) -> Plan:
    if given["report"]:
        from .named_places import check_report  # few jobs are reported

        check_report(given)
    given, heard = with_scheduler(given, environment)
    meeting = choose_meeting(given)
    _check_backend(given, meeting.backend, backends)
    variables: Mapping[str, str] = {}
    gpus = 0
    if given["gpus"]:
        from .chosen_gpus import chosen_gpus  # few jobs

        variables, gpus = chosen_gpus(given, environment.variables, read=devices)
    is_by_gpus = gpus and given["nproc_per_node"] in _KINDS_OF_GPUS
    workers, counted = (gpus, ()) if is_by_gpus else _workers(given, environment, count)
    template: str | None = None
    kept = useless_rules = tuple[str, ...]()
    if given["log_line_prefix_template"] or environment.log_line_prefix_template:
        from .output_options import prefix_template  # few jobs have one

        template, kept = prefix_template(given, environment)
    if given["hang_log_pattern"] is not None:
        from .output_options import check_hang_log_pattern  # few jobs have one

        check_hang_log_pattern(given, environment)
    restart_rules = None
    if any(given.is_given(name) for name in _RESTART_OPTIONS):
        from .restart_options import rules_of  # few jobs

        restart_rules, useless_rules = rules_of(given, _RESTART_OPTIONS)
    requeueing: Iterable[str] = ()
    if given["requeue"]:
        from .requeue_option import check_requeue  # few jobs

        requeueing = check_requeue(given, environment.variables)
    notices = [
        *heard,
        *meeting.notices,
        *counted,
        *kept,
        *_notices(environment, workers),
        *_gpus_that_are_shared(given, workers, gpus),
        *_absent_ranks(given, workers),
        *useless_rules,
        *_time_of_no_check(given),
        *requeueing,
    ]
    chosen = _Chosen(workers, template, restart_rules)
    config = _config_of(given, environment, meeting, chosen, is_rehearsal=is_rehearsal)
    return Plan(config, program, tuple(notices), given, variables)


class _Chosen(NamedTuple):
    workers: int
    prefix_template: str | None
    restart_rules: RestartRules | None


def _config_of(
    given: Given, environment: Environment, meeting: Meeting, chosen: _Chosen, *, is_rehearsal: bool
) -> LaunchConfig:
    try:
        return LaunchConfig(
            min_nodes=given["nnodes"].minimum,
            max_nodes=given["nnodes"].maximum,
            nproc_per_node=chosen.workers,
            logs_specs=_logs_specs(given, is_rehearsal=is_rehearsal),
            run_id=meeting.run_id,
            role=given["role"],
            rdzv_endpoint=meeting.endpoint,
            rdzv_backend=meeting.backend,
            rdzv_configs=meeting.settings,
            max_restarts=given["max_restarts"],
            monitor_interval=given["monitor_interval"],
            start_method=given["start_method"],
            log_line_prefix_template=chosen.prefix_template,
            local_addr=given["local_addr"],
            event_log_handler=_event_log_handler(given),
            numa_options=_numa_options(given),
            signals_to_handle=given["signals_to_handle"],
            forward_signals=_forwarded(given, environment),
            preempt_signal=given["preempt_signal"] or "",
            grace=given["grace"],
            signal_to=given["signal_to"] or "",
            duplicate_stdout_filters=given["duplicate_stdout_filters"],
            duplicate_stderr_filters=given["duplicate_stderr_filters"],
            virtual_local_rank=given["virtual_local_rank"],
            preload=given["preload"],
            restart_rules=chosen.restart_rules,
            report=given["report"],
            history=not given["no_history"],
            metrics_port=given["metrics_port"],
            metrics_file=given["metrics_file"],
            hang_timeout=given["hang_timeout"],
            timeout=given["timeout"],
            health_check=given["health_check"],
            health_check_timeout=given["health_check_timeout"],
            hang_log_pattern=given["hang_log_pattern"],
            exit_barrier_timeout=environment.exit_barrier_timeout_s
            if given["exit_barrier_timeout"] is None
            else given["exit_barrier_timeout"],
            shutdown_timeout=_shutdown_timeout(given, environment),
        )
    except ValueError as error:
        raise Refusal(str(error)) from error


def _gpus_that_are_shared(given: Given, workers: int, gpus: int) -> Iterator[str]:
    if 0 < gpus < workers:
        yield f"{given.said('gpus')}: {workers} workers share {gpus} GPU{'s' * (gpus > 1)}"


def _forwarded(given: Given, environment: Environment) -> str:
    """Return the signals that workers get; schedulers send some that don't mean the end."""
    if (wanted := given["forward_signals"]) is not None:
        return str(wanted)
    if not any(name in environment.variables for name in _SENDERS_OF_SIGNALS):
        return ""
    from ...agent.system.signals import parse_signals  # not on a workstation

    names = f"{given['signals_to_handle']},{given['preempt_signal'] or ''}"
    ending = {number.name for number in parse_signals(names)}
    return ",".join(name for name in _USUALLY_FORWARDED if name not in ending)


def _shutdown_timeout(given: Given, environment: Environment) -> float:
    is_cut = given["grace"] is not None or any(
        name in environment.variables for name in _SENDERS_OF_SIGNALS
    )
    if is_cut:
        from .time_limits import shutdown_timeout_s  # not on a workstation

        return shutdown_timeout_s(given, environment)
    wanted: float | None = given["shutdown_timeout"]
    return environment.shutdown_timeout_s if wanted is None else wanted


def _time_of_no_check(given: Given) -> Iterator[str]:
    if given.is_given("health_check_timeout") and not given["health_check"]:
        yield f"{given.said('health_check_timeout')}: no effect without --health-check"


def with_scheduler(given: Given, environment: Environment) -> tuple[Given, tuple[str, ...]]:
    """Return the options with what a scheduler answers to those that were not given.

    Returns:
        The options, and what the user should know, a sentence each.

    Raises:
        Refusal: The options contradict the scheduler.
    """
    if not any(name in environment.variables for name in _SCHEDULER_VARIABLES):
        return given, ()
    from .scheduler import ask_scheduler  # not every node has one

    return ask_scheduler(given, environment.variables)


def _check_backend(
    given: Given, backend: str, backends: Callable[[], Sequence[str]] | None
) -> None:
    if is_own(backend):
        return
    from ...rendezvous.backends.registry import known_backends  # few jobs

    known = (backends or known_backends)()
    if backend not in known:
        raise Refusal(
            f"{given.said('rdzv_backend')}: there is no such backend; "
            f"give {listed(known)}{nearest(backend, known)}"
        )


def _workers(
    given: Given, environment: Environment, count: Counter | None
) -> tuple[int, tuple[str, ...]]:
    wanted = given["nproc_per_node"]
    if isinstance(wanted, int) and wanted <= _MANY_WORKERS:
        return wanted, ()
    from .worker_count import counted_workers  # a usual number needs no counting

    return counted_workers(given, environment.variables, count)


def _notices(environment: Environment, workers: int) -> list[str]:
    notices = []
    if workers > 1 and "OMP_NUM_THREADS" not in environment.variables:
        notices.append(
            f"OMP_NUM_THREADS=1 for each of the {workers} workers; set it for another number"
        )
    return notices


def _logs_specs(given: Given, *, is_rehearsal: bool) -> LogsSpecs:
    ranks, log_dir = given["local_ranks_filter"], given["log_dir"]
    if is_rehearsal and log_dir not in (None, os.devnull):
        from .named_places import check_log_dir  # few commands

        check_log_dir(given)
        log_dir = None  # which makes a folder only when workers start
    settings = {
        "log_dir": log_dir,
        "redirects": given["redirects"],
        "tee": given["tee"],
        "local_ranks_filter": None if ranks is None else set(ranks),
    }
    if given["logs_specs"] not in (None, DEFAULT_LAYOUT):
        from .log_plugins import layout_of_plug_in  # few jobs have one

        return layout_of_plug_in(given, settings)
    from ...agent.output.specs import DefaultLogsSpecs  # a refusal needs none

    try:
        return DefaultLogsSpecs(**settings)
    except ValueError as error:
        what = str(error).removeprefix(f"log_dir {given['log_dir']!r} ")
        raise Refusal(f"{given.said('log_dir')} {what}") from error


def _event_log_handler(given: Given) -> str:
    if given["event_log_handler"] == "null":
        return "null"
    from .event_handler_option import event_handler_of  # few jobs have one

    return event_handler_of(given)


def _numa_options(given: Given) -> NumaOptions | None:
    if given["numa_binding"] is None:
        return None
    from ...agent.hardware.numa import AffinityMode, NumaOptions  # few jobs

    # It makes a job faster, and must not keep one from running.
    mode = AffinityMode(given["numa_binding"])
    return NumaOptions(mode, should_fall_back_if_binding_fails=True)


def _absent_ranks(given: Given, workers: int) -> Sequence[str]:
    # A setting for all names no ranks. It is an IntFlag, which can be iterated, too.
    options = [each for each in _OPTIONS_OF_RANKS if isinstance(given[each], (dict, frozenset))]
    if not options:
        return ()
    from .output_options import ranks_that_are_not_there  # few jobs name ranks

    return ranks_that_are_not_there(given, options, workers)
