"""How to launch, as one value that is checked when it is made and again when it is used."""

from __future__ import annotations

from types import MappingProxyType

from ...agent.plain_value import PlainValue
from ...agent.processes import START_METHODS
from ...agent.system.signals import DEFAULT_SIGNALS, parse_signals
from ...rendezvous.api.parameters import (
    DICT,
    SECONDS,
    TEXT,
    WHOLE_NUMBER,
    Kind,
    require,
    require_texts,
)
from ..commandline.converters import (
    is_module_name,
    parse_metrics_port,
    parse_pattern,
    parse_prefix,
    parse_report,
)
from ..commandline.environment import Environment
from ..commandline.options import STANDALONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from typing_extensions import Self

    from ...agent.failures.restart_rules import RestartRules
    from ...agent.hardware.numa import NumaOptions
    from ...agent.output.specs import LogsSpecs

DEFAULT_LAYOUT = "default"
"""The name under which torch registers its layout of log files; elrun's own stands for it."""


_LAYOUT = Kind(("reify",), "a LogsSpecs")
_BINDING = Kind(("affinity_mode",), "NumaOptions")
_RULES = Kind(("stop_timeout_s",), "RestartRules")

_SETTINGS = ("rdzv_configs", "metrics_cfg")
_FILTERS = ("duplicate_stdout_filters", "duplicate_stderr_filters")

# What a value has to be; those of the third column may be None as well.
_KINDS: tuple[tuple[Kind, tuple[str, ...], tuple[str, ...]], ...] = (
    (WHOLE_NUMBER, ("min_nodes", "max_nodes", "nproc_per_node", "max_restarts"), ()),
    (
        SECONDS,
        (
            "monitor_interval",
            "shutdown_timeout",
            "exit_barrier_timeout",
            "rdzv_timeout",
            "health_check_timeout",
        ),
        ("hang_timeout", "timeout", "grace"),
    ),
    (
        TEXT,
        (
            *("role", "start_method", "signals_to_handle", "event_log_handler"),
            *("forward_signals", "preempt_signal", "signal_to"),
            *("rdzv_backend", "rdzv_endpoint"),
        ),
        (
            *("local_addr", "log_line_prefix_template", "report", "hang_log_pattern"),
            *("health_check", "metrics_port", "metrics_file"),
        ),
    ),
    (DICT, _SETTINGS, ()),
    (_LAYOUT, ("logs_specs",), ()),
    (_BINDING, (), ("numa_options",)),
    (_RULES, (), ("restart_rules",)),
)

# Which values are taken, and how a refusal names them.
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("shutdown_timeout", "exit_barrier_timeout"), lambda value: value >= 0, "0 seconds or more"),
    (
        ("monitor_interval", "hang_timeout", "health_check_timeout", "timeout", "grace"),
        lambda value: value is None or value > 0,
        "more than 0 seconds",
    ),
    (("virtual_local_rank", "history"), lambda value: value in (True, False), "True or False"),
)


class ChosenText(str):
    """A backend or a run id that the user did not ask for: each launch chooses it anew."""

    __slots__ = ()


class LaunchConfig(PlainValue):
    """How to launch the workers of one node, the others of the job being launched alike.

    It may be changed, as torch's may, and is checked again when it is launched.

    Args:
        min_nodes: Fewest nodes that may run the job.
        max_nodes: Most nodes that it takes.
        nproc_per_node: Number of workers on this node.
        logs_specs: Where the workers' output goes; by default to the console.
        run_id: Name of the job, the same on all its nodes; by default a random one, which no
            other node knows; a launch puts that here.
        role: Name that the workers share.
        rdzv_endpoint: ``host:port`` at which the nodes meet.
        rdzv_backend: How they meet; by default not at all where one node needs no endpoint
            (``standalone``), else by ``c10d``.
        rdzv_configs: The backend's own settings; they are copied.
        rdzv_timeout: Legacy name of ``rdzv_configs["timeout"]``, in seconds; -1 says nothing.
        max_restarts: Restarts that the job may spend.
        monitor_interval: Longest time in seconds between two looks at workers that can't be
            waited for.
        start_method: How functions get into new processes: spawn, fork or forkserver.
        log_line_prefix_template: What stands before each line of a worker on the console.
        metrics_cfg: ``null`` or ``console`` by group of metrics; the group "" stands for the rest.
        local_addr: Address of this node that the others should use; by default it is found.
        event_log_handler: Name of the handler that takes the events: ``null``, ``console``,
            ``file``, ``file:PATH``, or a plug-in.
        numa_options: How workers are bound to CPUs; by default they may use any.
        signals_to_handle: Names of the signals that end the job, separated by commas; where it is
            empty, those that ``TORCHELASTIC_SIGNALS_TO_HANDLE`` names, else the default.
        forward_signals: Names of signals, separated by commas, that every worker of every node gets
            when the elrun of one node gets them, while the job goes on.
        preempt_signal: Names of the signals, if any, at which the workers of all nodes leave and
            the job ends by ``Preempted``.
        grace: Seconds that elrun has from a signal on until it is killed; ``shutdown_timeout`` is
            cut to fit.
        signal_to: Whether a worker gets signals before what it has started ("main"), or with it
            ("group"); "": signals that end the job go to the group, the others to main.
        duplicate_stdout_filters: Words; lines of standard output with one of them are kept aside.
        duplicate_stderr_filters: The same for standard error.
        virtual_local_rank: Whether each worker sees one GPU only, as device 0, with LOCAL_RANK 0.
        shutdown_timeout: Seconds that workers have between a signal and SIGKILL; by default what
            ``TORCH_ELASTIC_SHUTDOWN_TIMEOUT`` says, else 30.
        exit_barrier_timeout: Seconds that a node whose workers have succeeded waits for the
            others; by default what ``TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT`` says, else 300.
        report: File for a report of the job as JSON, rewritten at each change; ``${hostname}`` and
            ``${pid}`` are filled in.
        restart_rules: Which failures are followed by a restart, and how; by default all, as long
            as ``max_restarts`` lets.
        hang_timeout: Seconds without a sign of life of any rank after which the job counts as hung;
            by default it never does. ``docs/failures.md`` says what counts.
        hang_log_pattern: A regular expression; then only lines of output that it is found in count.
        history: Whether a history of events and samples is kept in the run's folder.
        timeout: Seconds that the whole job may take on this node, waits included; by default it has
            no limit.
        metrics_port: Where Prometheus may ask for the job's metrics: a port of this host, or an
            address and a port; by default nowhere.
        metrics_file: File for the metrics, for a textfile collector; filled in as ``report`` is.
        health_check: A command for the shell, which each node runs before each attempt; a node on
            which it fails does not take part.
        health_check_timeout: Seconds that it may take.
        preload: Names of modules that one process imports before the workers are forked from it;
            ``auto`` stands for those that the first attempt is seen to import.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """

    origins = MappingProxyType[str, "Mapping[str, str | None]"]({})
    """The options that a command line gave, by name: value, origin and source; for the report."""

    min_nodes: int
    max_nodes: int
    nproc_per_node: int
    logs_specs: LogsSpecs
    run_id: str
    role: str
    rdzv_endpoint: str
    rdzv_backend: str
    rdzv_configs: dict[str, Any]
    rdzv_timeout: int
    max_restarts: int
    monitor_interval: float
    start_method: str
    log_line_prefix_template: str | None
    metrics_cfg: dict[str, str]
    local_addr: str | None
    event_log_handler: str
    numa_options: NumaOptions | None
    signals_to_handle: str
    duplicate_stdout_filters: list[str] | None
    duplicate_stderr_filters: list[str] | None
    virtual_local_rank: bool
    shutdown_timeout: float
    exit_barrier_timeout: float
    preload: Sequence[str]
    restart_rules: RestartRules | None
    report: str | None
    hang_timeout: float | None
    hang_log_pattern: str | None
    forward_signals: str
    history: bool
    metrics_port: str | None
    metrics_file: str | None
    timeout: float | None
    health_check: str | None
    health_check_timeout: float
    preempt_signal: str
    grace: float | None
    signal_to: str

    def __init__(
        self,
        min_nodes: int,
        max_nodes: int,
        nproc_per_node: int,
        logs_specs: LogsSpecs | None = None,
        run_id: str = "",
        role: str = "default_role",
        rdzv_endpoint: str = "",
        rdzv_backend: str = "",
        rdzv_configs: Mapping[str, Any] | None = None,
        rdzv_timeout: int = -1,
        max_restarts: int = 3,
        monitor_interval: float = 0.1,
        start_method: str = "spawn",
        log_line_prefix_template: str | None = None,
        metrics_cfg: Mapping[str, str] | None = None,
        local_addr: str | None = None,
        event_log_handler: str = "null",
        numa_options: NumaOptions | None = None,
        signals_to_handle: str = DEFAULT_SIGNALS,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        virtual_local_rank: bool = False,
        shutdown_timeout: float | None = None,
        exit_barrier_timeout: float | None = None,
        preload: Sequence[str] = (),
        restart_rules: RestartRules | None = None,
        report: str | None = None,
        hang_timeout: float | None = None,
        hang_log_pattern: str | None = None,
        forward_signals: str = "",
        history: bool = True,
        metrics_port: str | None = None,
        metrics_file: str | None = None,
        timeout: float | None = None,
        health_check: str | None = None,
        health_check_timeout: float = 30,
        preempt_signal: str = "",
        grace: float | None = None,
        signal_to: str = "",
    ) -> None:
        given = locals()
        vars(self).update((name, given[name]) for name in LaunchConfig.__annotations__)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Settle what None and "" stand for; a dataclass that extends this one calls it, too."""
        require(DICT, or_none=True, rdzv_configs=self.rdzv_configs, metrics_cfg=self.metrics_cfg)
        self.rdzv_configs = dict(self.rdzv_configs or {})
        self.metrics_cfg = dict(self.metrics_cfg or {})
        if self.rdzv_timeout != -1:
            self.rdzv_configs["timeout"] = self.rdzv_timeout
        self._settle()

    def to_launch(self) -> Self:
        """Return a copy as it is to be launched; what has been changed here is settled there.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        if isinstance(self.run_id, ChosenText):
            copy.run_id = ""
        copy._settle()
        return copy

    def _settle(self) -> None:
        self.run_id = "" if self.run_id is None else str(self.run_id)
        require(WHOLE_NUMBER, max_nodes=self.max_nodes)
        if not self.rdzv_backend or isinstance(self.rdzv_backend, ChosenText):
            meets_nobody = self.max_nodes == 1 and not self.rdzv_endpoint
            self.rdzv_backend = ChosenText(STANDALONE if meets_nobody else "c10d")
        unsettled = vars(self)
        for name, nothing in (("rdzv_endpoint", ""), ("preload", ())):
            if unsettled[name] is None:
                unsettled[name] = nothing
        if unsettled["signals_to_handle"] == "":
            self.signals_to_handle = Environment.current().signals_to_handle
        if unsettled["logs_specs"] is None:
            from ...agent.output.specs import DefaultLogsSpecs  # the command line has its own

            self.logs_specs = DefaultLogsSpecs()
        if unsettled["shutdown_timeout"] is None:
            self.shutdown_timeout = Environment.current().shutdown_timeout_s
        if isinstance(self.grace, (int, float)) and isinstance(self.shutdown_timeout, (int, float)):
            from ...agent.elastic.deadlines import workers_share  # few jobs

            self.shutdown_timeout = min(self.shutdown_timeout, workers_share(self.grace))
        if unsettled["exit_barrier_timeout"] is None:
            self.exit_barrier_timeout = Environment.current().exit_barrier_timeout_s
        _check(self)


def _check(config: LaunchConfig) -> None:
    values = vars(config)
    for kind, names, or_none in _KINDS:
        require(kind, **{name: values[name] for name in names})
        require(kind, or_none=True, **{name: values[name] for name in or_none})
    require_texts("a list of words", **{name: values[name] for name in _FILTERS})
    require_texts("a list of names of modules", preload=config.preload)
    require_texts("names as its keys", **{name: values[name] for name in _SETTINGS})
    for is_wrong, sentence in _rules(config):
        if is_wrong:
            raise ValueError(sentence)
    for names, is_right, wanted in _RANGES:
        for name in names:
            if not is_right(values[name]):
                raise ValueError(f"{name}={values[name]!r}: give {wanted}")
    _parse("signals_to_handle", config.signals_to_handle, parse_signals)
    _parse("forward_signals", config.forward_signals, parse_signals)
    _parse("preempt_signal", config.preempt_signal, parse_signals)
    if config.forward_signals or config.preempt_signal:
        from .signal_roles import check_signal_roles  # few jobs

        check_signal_roles(config)
    _parse("hang_log_pattern", config.hang_log_pattern or "", parse_pattern)
    _parse("report", config.report or "", parse_report)
    _parse("metrics_file", config.metrics_file or "", parse_report)
    _parse("metrics_port", config.metrics_port or "", parse_metrics_port)
    _parse("log_line_prefix_template", config.log_line_prefix_template or "", parse_prefix)


def _parse(name: str, text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{name}={text!r}: {error}") from error


def _rules(config: LaunchConfig) -> tuple[tuple[bool, str], ...]:
    """Return whether each rule is broken, with the sentence that says so."""
    return (
        (config.min_nodes < 1, f"min_nodes={config.min_nodes}: a job takes at least 1 node"),
        (
            config.max_nodes < config.min_nodes,
            f"max_nodes={config.max_nodes} is less than min_nodes={config.min_nodes}",
        ),
        (
            config.nproc_per_node < 1,
            f"nproc_per_node={config.nproc_per_node}: give at least 1 worker",
        ),
        (
            config.rdzv_backend == STANDALONE and config.max_nodes > 1,
            f"max_nodes={config.max_nodes}: rdzv_backend='standalone' is for one node",
        ),
        (
            config.rdzv_backend == "static" and config.min_nodes != config.max_nodes,
            "rdzv_backend='static' takes a fixed number of nodes; use 'c10d' for a range",
        ),
        (
            config.signal_to not in ("", "main", "group"),
            f"signal_to={config.signal_to!r}: give main or group",
        ),
        (config.max_restarts < 0, f"max_restarts={config.max_restarts}: give 0 or more"),
        (
            config.start_method not in START_METHODS,
            f"start_method={config.start_method!r}: give one of {', '.join(START_METHODS)}",
        ),
        (
            not all(map(is_module_name, config.preload)),
            f"preload={config.preload!r}: give a list of names of modules",
        ),
        (
            config.hang_log_pattern is not None and config.hang_timeout is None,
            "hang_log_pattern: no effect without hang_timeout",
        ),
    )
