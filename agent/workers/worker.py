"""What an agent runs: workers, their group, their states, and how a run ended."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import time
import warnings

from ...rendezvous.api.parameters import SECONDS, TEXT, WHOLE_NUMBER, Kind, require
from ..plain_value import PlainValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...rendezvous.api.handler import RendezvousHandler
    from ...rendezvous.api.parameters import RendezvousStoreInfo
    from ..failures.failure import ProcessFailure
    from ..failures.report import JobReport
    from ..failures.restart_rules import RestartRules
    from ..hardware.numa import NumaOptions


_LOCAL_RANK_MACRO = "${local_rank}"
_WITH_VALUE = ("--check-hash-based-pycs",)  # of Python's long options

_SPEC = Kind(("local_world_size",), "a WorkerSpec")


class WorkerSpec(PlainValue):
    """The plan of a worker group: what is run, how often, and with which others.

    Args:
        role: Name that the workers share.
        local_world_size: Number of workers on this node.
        rdzv_handler: How this node meets the others.
        fn: Deprecated name of ``entrypoint``.
        entrypoint: A command, or a function that the start method can bring into a new process.
        args: What the entrypoint is called with, the same for every worker.
        max_restarts: Restarts that the job may spend.
        monitor_interval: Longest time in seconds between two looks at the workers.
        master_port: Port of the workers' store, if it must be this one.
        master_addr: Address of the workers' store, if it must be this one.
        local_addr: Address of this node that others should use.
        event_log_handler: Name of the handler that takes the events.
        numa_options: How workers are bound to CPUs.
        duplicate_stdout_filters: Words; lines of standard output with one of them are kept aside.
        duplicate_stderr_filters: The same for standard error.
        virtual_local_rank: Whether each worker sees one GPU only, as device 0, with LOCAL_RANK 0.
        restart_rules: Which failures are followed by a restart, and how; by default all, as long
            as ``max_restarts`` lets.

    Raises:
        ValueError: A number is out of range, or there is no entrypoint.
    """

    def __init__(
        self,
        role: str,
        local_world_size: int,
        rdzv_handler: RendezvousHandler,
        fn: Callable[..., Any] | None = None,
        entrypoint: Callable[..., Any] | str | None = None,
        args: tuple[Any, ...] = (),
        max_restarts: int = 3,
        monitor_interval: float = 0.1,
        master_port: int | None = None,
        master_addr: str | None = None,
        local_addr: str | None = None,
        event_log_handler: str = "null",
        numa_options: NumaOptions | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        virtual_local_rank: bool = False,
        restart_rules: RestartRules | None = None,
    ) -> None:
        require(WHOLE_NUMBER, local_world_size=local_world_size, max_restarts=max_restarts)
        require(SECONDS, monitor_interval=monitor_interval)
        require(TEXT, role=role)
        if local_world_size < 1:
            raise ValueError(f"local_world_size={local_world_size}: give at least 1")
        if monitor_interval <= 0:
            raise ValueError(f"monitor_interval={monitor_interval}: give more than 0 s")
        if max_restarts < 0:
            raise ValueError(f"max_restarts={max_restarts}: give 0 or more")
        if fn is not None:
            warnings.warn(
                "WorkerSpec(fn=…) is deprecated: use entrypoint=…", DeprecationWarning, stacklevel=2
            )
            entrypoint = fn
        if not entrypoint:
            raise ValueError("a WorkerSpec needs an entrypoint: a command or a function")
        self.role = role
        self.local_world_size = local_world_size
        self.rdzv_handler = rdzv_handler
        self.fn = fn
        self.entrypoint = entrypoint
        self.args = args
        self.max_restarts = max_restarts
        self.monitor_interval = monitor_interval
        self.master_port = master_port
        self.master_addr = master_addr
        self.local_addr = local_addr
        self.event_log_handler = event_log_handler
        self.numa_options = numa_options
        self.duplicate_stdout_filters = duplicate_stdout_filters
        self.duplicate_stderr_filters = duplicate_stderr_filters
        self.virtual_local_rank = virtual_local_rank
        self.restart_rules = restart_rules

    def args_of(self, local_rank: int) -> tuple[Any, ...]:
        """Return the arguments of one worker: ``${local_rank}`` is filled in."""
        return tuple(
            arg.replace(_LOCAL_RANK_MACRO, str(local_rank)) if isinstance(arg, str) else arg
            for arg in self.args
        )

    def get_entrypoint_name(self) -> str:
        """Return the function's qualified name, or the command's file name."""
        if isinstance(self.entrypoint, str):
            return os.path.basename(self.entrypoint)
        return str(getattr(self.entrypoint, "__qualname__", self.entrypoint))


class Worker:
    """One worker: its ranks, and an id that its agent understands (a local agent's is the pid).

    Args:
        local_rank: Rank among the workers of this node.
        global_rank: Rank among all workers; -1 before the first rendezvous.
        role_rank: Rank among the workers of its role; -1 before the first rendezvous.
        world_size: Number of all workers; -1 before the first rendezvous.
        role_world_size: Number of workers of its role; -1 before the first rendezvous.
    """

    __slots__ = (
        "global_rank",
        "id",
        "local_rank",
        "role_rank",
        "role_world_size",
        "world_size",
    )

    def __init__(
        self,
        local_rank: int,
        global_rank: int = -1,
        role_rank: int = -1,
        world_size: int = -1,
        role_world_size: int = -1,
    ) -> None:
        self.id: Any = None
        self.local_rank = local_rank
        self.global_rank = global_rank
        self.role_rank = role_rank
        self.world_size = world_size
        self.role_world_size = role_world_size

    def __repr__(self) -> str:
        return (
            f"Worker(id={self.id!r}, local_rank={self.local_rank}, "
            f"global_rank={self.global_rank}, role_rank={self.role_rank}, "
            f"world_size={self.world_size}, role_world_size={self.role_world_size})"
        )


class WorkerState(str, enum.Enum):
    """State of a worker group, whose workers change state as one."""

    UNKNOWN = "UNKNOWN"
    """The agent lost track: nothing can be done but stop."""
    INIT = "INIT"
    """Not started yet."""
    HEALTHY = "HEALTHY"
    """Running."""
    UNHEALTHY = "UNHEALTHY"
    """Running, but not as it should."""
    STOPPED = "STOPPED"
    """Stopped by the agent, soon to be started again."""
    SUCCEEDED = "SUCCEEDED"
    """Every worker ended with 0."""
    FAILED = "FAILED"
    """A worker ended otherwise."""

    @staticmethod
    def is_running(state: WorkerState) -> bool:
        """Return whether workers in this state have processes that run."""
        return state in (WorkerState.HEALTHY, WorkerState.UNHEALTHY)


class WorkerGroup:
    """The workers of one agent, started and stopped as one.

    Args:
        spec: The plan; the group starts in state INIT, with ranks yet to be assigned.
    """

    __slots__ = (
        "_state",
        "group_rank",
        "group_world_size",
        "master_addr",
        "master_port",
        "spec",
        "state_since",
        "store",
        "workers",
    )

    def __init__(self, spec: WorkerSpec) -> None:
        require(_SPEC, spec=spec)
        self.spec = spec
        self.workers = [Worker(local_rank) for local_rank in range(spec.local_world_size)]
        self._state = WorkerState.INIT
        self.state_since = time.monotonic()
        """When the state has changed last, by the monotonic clock."""
        # The fields below are filled in by a rendezvous.
        self.store: Any = None
        self.group_rank: int | None = None
        self.group_world_size: int | None = None
        self.master_addr: str | None = None
        self.master_port: int | None = None

    @property
    def state(self) -> WorkerState:
        """The state of all workers."""
        return self._state

    @state.setter
    def state(self, state: WorkerState) -> None:
        if state is not self._state:
            self._state, self.state_since = state, time.monotonic()

    def meet_at(self, store: Any, meeting: RendezvousStoreInfo | None) -> None:
        """Note where the workers meet; the spec's address and port, if given, are used instead.

        Args:
            store: What the agents of the round share.
            meeting: The place that the rendezvous has chosen, if it has.
        """
        self.store = store
        self.master_addr = self.spec.master_addr or (meeting.master_addr if meeting else None)
        self.master_port = self.spec.master_port or (meeting.master_port if meeting else None)


class RunResult(PlainValue):
    """How a worker group stands, or ended.

    Args:
        state: The group's state.
        return_values: What functions returned, by global rank, when all succeeded.
        failures: Failed workers by global rank; not those that the agent stopped.
        report: Every rank's end and the job's first failure, when the job failed.
    """

    def __init__(
        self,
        state: WorkerState,
        return_values: dict[int, Any] | None = None,
        failures: dict[int, ProcessFailure] | None = None,
        report: JobReport | None = None,
    ) -> None:
        self.state = state
        self.return_values = {} if return_values is None else return_values
        self.failures = {} if failures is None else failures
        self.report = report

    def is_failed(self) -> bool:
        """Return whether the group failed."""
        return self.state is WorkerState.FAILED


def name_of(entrypoint: object, args: Sequence[object]) -> str:
    """Return what people call the thing that is run.

    Args:
        entrypoint: A function: its qualified name. A Python interpreter: its module, its script,
            or ``<stdin>``. Another command, and an interpreter that runs ``-c``: the command.
        args: The entrypoint's arguments.
    """
    if not isinstance(entrypoint, str):
        return str(getattr(entrypoint, "__qualname__", entrypoint))
    if not _is_python(entrypoint):
        return entrypoint
    option, name = _target_of([str(each) for each in args])
    if option == "-":
        return "<stdin>"
    return name if name and option != "-c" else entrypoint


def script_of(entrypoint: object, args: Sequence[object]) -> str:
    """Return the path of the script or the program that is run; "" if that is no file.

    Args:
        entrypoint: A function, or a command: where that is an interpreter, the script counts.
        args: The entrypoint's arguments.
    """
    if not isinstance(entrypoint, str):
        return ""
    path = entrypoint
    if _is_python(entrypoint):
        option, path = _target_of([str(each) for each in args])
        if option:
            return ""
    elif os.sep not in path:  # sought in PATH
        return ""
    with contextlib.suppress(OSError):  # its working directory is gone
        return path and os.path.abspath(path)
    return ""


def _is_python(program: str) -> bool:
    return program == sys.executable or os.path.basename(program).startswith("python")


def _target_of(words: Sequence[str]) -> tuple[str, str]:
    """Return what Python runs: an option ("" for a script, "-m", "-c" or "-"), and its name.

    Args:
        words: The interpreter's arguments; if they name nothing to run, both are "".
    """
    rest = iter(words)
    for word in rest:
        if word == "--":
            return "", next(rest, "")
        if word in _WITH_VALUE:
            next(rest, None)
        elif word == "-" or not word.startswith("-"):
            return ("-", "") if word == "-" else ("", word)
        elif not word.startswith("--"):
            at = next((at for at, letter in enumerate(word) if letter in "cmXW"), len(word))
            option, value = word[at : at + 1], word[at + 1 :]  # "-mpdb" and "-um pdb" are the same
            if option and not value:
                value = next(rest, "")
            if option in ("c", "m"):
                return f"-{option}", value
    return "", ""
