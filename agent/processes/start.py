"""Starts a set of worker processes: the public face of everything that handles them."""

from __future__ import annotations

from ...rendezvous.api.parameters import ENTRYPOINT, require
from ..output.specs import LogsSpecs
from .context import PContext
from .guardian import Guardian
from .results import RunProcsResult, WorkerExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..hardware.numa import CpuBinding, NumaOptions
    from ..output.outlets import JobOutput
    from .executor import Executor, StartWait

__all__ = ["PContext", "RunProcsResult", "WorkerExit", "start_processes"]


def start_processes(
    name: str,
    entrypoint: Callable[..., Any] | str,
    args: Mapping[int, tuple[Any, ...]],
    envs: dict[int, dict[str, str]],
    logs_specs: LogsSpecs,
    log_line_prefixes: dict[int, str] | None = None,
    start_method: str = "spawn",
    numa_options: NumaOptions | None = None,
    duplicate_stdout_filters: list[str] | None = None,
    duplicate_stderr_filters: list[str] | None = None,
    *,
    guardian: Guardian | None = None,
    executor: Executor | None = None,
    binding: CpuBinding | None = None,
    start_wait: StartWait | None = None,
    job_output: Callable[[], JobOutput] | None = None,
) -> PContext:
    """Start copies of a command or a Python function, one for each local rank.

    Args:
        name: What the workers are called: their role.
        entrypoint: A program, found through PATH; or a function.
        args: Arguments by local rank, from 0 on. A program gets them as text.
        envs: What is added to the inherited environment, by local rank.
        logs_specs: Where the workers' output goes.
        log_line_prefixes: What stands before each line of a worker that is shown, by local rank.
        start_method: How a function gets into a new process: spawn, fork or forkserver.
        numa_options: How workers are bound to CPUs; by default they may use any.
        duplicate_stdout_filters: Words; lines of standard output with one of them are kept aside.
        duplicate_stderr_filters: The same for standard error.
        guardian: The agent's guardian, for one worker group at a time; by default there is one
            for these workers, until they are closed.
        executor: What starts a program or a fresh interpreter; by default it is executed.
        binding: The agent's way of binding them, instead of ``numa_options``: it warns once.
        start_wait: How it is waited for that programs are loaded; once they are unwanted, no more
            workers are started. By default it takes as long as it takes.
        job_output: Returns the output of an agent's attempts; the end of standard error is kept.

    Returns:
        The running workers. The caller waits for them, or closes them.

    Raises:
        RuntimeError: ``args`` and ``envs`` are not for the same local ranks, from 0 on.
        ValueError: A value is none of these, or can't be given to a new process; or a worker
            can't be bound to CPUs and may not run on others.
        OSError: There can be no more processes or descriptors.
    """
    require(ENTRYPOINT, entrypoint=entrypoint)
    if numa_options is not None and binding is None:
        from ..hardware.numa import CpuBinding  # few jobs

        binding = CpuBinding(numa_options)
    common: dict[str, Any] = {
        "name": name,
        "entrypoint": entrypoint,
        "args": args,
        "envs": envs,
        "logs_specs": logs_specs,
        "log_line_prefixes": log_line_prefixes,
        "duplicate_stdout_filters": duplicate_stdout_filters,
        "duplicate_stderr_filters": duplicate_stderr_filters,
        "guardian": guardian,
        "executor": executor,
        "cpus": None if binding is None else binding.choose(len(args)),
        "job_output": job_output,
    }
    context: PContext
    if isinstance(entrypoint, str):
        from .command_context import SubprocessContext  # one of the two is needed

        context = SubprocessContext(**common)
    else:
        from .function_context import MultiprocessContext

        context = MultiprocessContext(start_method=start_method, **common)
    context.start(start_wait)
    return context
