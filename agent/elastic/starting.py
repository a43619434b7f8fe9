"""Starts the processes of one attempt, as the agent's options and the round say."""

from __future__ import annotations

import os

from ...rendezvous.api.handler import RoundHandler
from ...rendezvous.errors import UsageError
from ..output.folders import make_folders
from ..output.specs import DefaultLogsSpecs, LogsSpecs
from ..processes.start import PContext, start_processes
from ..workers.environment import worker_environment
from ..workers.worker import WorkerGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..hardware.numa import CpuBinding, NumaOptions
    from ..processes.executor import Executor
    from ..processes.guardian import Guardian
    from .waiting import LoopWait


class WorkerStart:
    """Starts worker groups of one kind.

    Args:
        logs_specs: Where the workers' output goes.
        start_method: How functions get into a new process.
        prefix_template: What stands before each line under ``--tee``; None: the usual.
        numa_options: How workers are bound to CPUs; None: they are not.
        environ: The agent's environment.
        rounds: The rendezvous.
        loop: Waits meanwhile.
    """

    def __init__(
        self,
        logs_specs: LogsSpecs,
        start_method: str,
        prefix_template: str | None,
        numa_options: NumaOptions | None,
        environ: Mapping[str, str],
        rounds: RoundHandler,
        loop: LoopWait,
    ) -> None:
        self._logs_specs = logs_specs
        self._start_method = start_method
        self._prefix_template = prefix_template
        self._environ = environ
        self._rounds = rounds
        self._loop = loop
        self._binding = None if numa_options is None else _binding_by(numa_options)

    def start(self, group: WorkerGroup, restart_count: int, guardian: Guardian | None) -> PContext:
        """Start the processes of an attempt, once the companions are ready for it.

        Args:
            group: The workers, with their ranks.
            restart_count: Restarts that the job has spent.
            guardian: The agent's guardian; None: the processes get one of their own.

        Raises:
            UsageError: An argument can't be given to a process, or a GPU or a folder can't be had.
            SignalException: A signal has come that ends the job.
        """
        spec, executor = group.spec, self._executor()
        added = self._loop.companions.environment()
        try:
            envs = {
                worker.local_rank: worker_environment(
                    worker,
                    group,
                    restart_count=restart_count,
                    run_id=self._rounds.get_run_id(),
                    use_agent_store=self._rounds.use_agent_store,
                    inherited=self._environ,
                )
                | added
                for worker in group.workers
            }
            return start_processes(
                name=spec.role,
                entrypoint=spec.entrypoint or "",
                args={rank: spec.args_of(rank) for rank in envs},
                envs=envs,
                logs_specs=self._make_folders(envs, guardian),
                log_line_prefixes=self._prefixes(group, restart_count),
                start_method=self._start_method,
                duplicate_stdout_filters=spec.duplicate_stdout_filters,
                duplicate_stderr_filters=spec.duplicate_stderr_filters,
                guardian=guardian,
                executor=executor,
                binding=self._binding,
                start_wait=self._loop.start_wait,
                job_output=self._loop.output,
            )
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _executor(self) -> Executor | None:
        """Return what starts the workers, once the preload server is ready, if there is one."""
        server = self._loop.companions.preload_server
        if server is None:
            return None
        while not server.is_settled:
            self._loop.wait((), None)
        return server.executor()

    def _make_folders(
        self, envs: dict[int, dict[str, str]], guardian: Guardian | None
    ) -> LogsSpecs:
        specs, loop = self._logs_specs, self._loop
        made = make_folders(specs, envs, loop.wakeup, lambda timeout_s: loop.wait((), timeout_s))
        if guardian is not None and isinstance(specs, DefaultLogsSpecs):
            guardian.watch_folder(specs.temporary_dir)
        return made

    def _prefixes(self, group: WorkerGroup, restart_count: int) -> dict[int, str] | None:
        if not self._prefix_template:
            return None
        from ..output.prefixes import prefix_of  # noqa: PLC0415  few jobs have a template

        return {
            worker.local_rank: prefix_of(
                self._prefix_template,
                role_name=group.spec.role,
                local_rank=worker.local_rank,
                rank=worker.global_rank,
                hostname=os.uname().nodename,
                restart_count=restart_count,
            )
            for worker in group.workers
        }


def _binding_by(options: NumaOptions) -> CpuBinding:
    from ..hardware.numa import CpuBinding  # noqa: PLC0415  few jobs

    return CpuBinding(options)
