"""Workers that are Python functions."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import IO, Any, cast

from ..output.specs import LogsSpecs
from ..system.fork import handled_signals, shielded_fork
from ..system.pidfd import close_all
from ..system.prctl import death_signal_for_children
from . import START_METHODS
from .context import PContext
from .executor import Executor, StartWait
from .function_main import ChildSetup, Descriptor, Task, name_of, run
from .guardian import Guardian
from .importable import require_importable
from .process import LOST_EXIT_CODE, WorkerProcess, WorkerSetup
from .results import StartFailed
from .spawner import Payload, Spawner, describe_this_process, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..output.outlets import JobOutput

_NOT_STARTED = 126  # what a shell reports


class MultiprocessContext(PContext):
    """Workers that run a Python function. It is started by ``start_processes``.

    Args:
        name: What the workers are called: their role.
        entrypoint: The function.
        args: Its arguments by local rank.
        envs: What is added to the inherited environment, by local rank.
        start_method: spawn (a fresh interpreter), fork (a copy of this process) or forkserver (a
            copy of a server process, which was executed when the first was asked for).
        logs_specs: Where their output goes.
        log_line_prefixes: What stands before each line of a worker that is shown, by local rank.
        duplicate_stdout_filters: Words; lines of standard output with one of them are kept aside.
        duplicate_stderr_filters: The same for standard error.
        guardian: The agent's guardian; by default the context has one of its own.
        executor: What starts a fresh interpreter.
        cpus: CPUs that they are bound to, by local rank; the others may use any.
        job_output: Returns the output of the agent's attempts.

    Raises:
        ValueError: There is no such start method.
    """

    def __init__(
        self,
        name: str,
        entrypoint: Callable[..., Any],
        args: Mapping[int, tuple[Any, ...]],
        envs: dict[int, dict[str, str]],
        start_method: str,
        logs_specs: LogsSpecs,
        log_line_prefixes: dict[int, str] | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        guardian: Guardian | None = None,
        executor: Executor | None = None,
        cpus: Mapping[int, Collection[int]] | None = None,
        job_output: Callable[[], JobOutput] | None = None,
    ) -> None:
        if start_method not in START_METHODS:
            raise ValueError(f"start_method={start_method!r}: give {', '.join(START_METHODS)}")
        super().__init__(
            name,
            entrypoint,
            args,
            envs,
            logs_specs,
            log_line_prefixes,
            duplicate_stdout_filters,
            duplicate_stderr_filters,
            guardian,
            cpus,
            job_output,
        )
        self.start_method = start_method
        self._function = entrypoint
        self._executor = executor
        self._results: list[IO[bytes]] = []
        self._payloads: list[Payload] = []
        self._spawner: Spawner | None = None

    def _prepare(self) -> None:
        for _ in range(self.nprocs):
            self._results.append(_unnamed_file())
        if self.start_method == "fork":
            return
        require_importable(self._function, self.start_method)
        preparation = describe_this_process(self.name)
        if self.start_method == "spawn":
            self._spawner = Spawner(self._executor or Executor())
            # All are pickled before the first is started: what can't be is known in time.
            for local_rank in range(self.nprocs):
                with self._pickling():
                    self._payloads.append(pack(self._process(local_rank), preparation))

    def _launch(self, starts: Sequence[WorkerSetup]) -> Iterator[WorkerProcess | StartFailed]:
        for start in starts:
            try:
                yield self._start(*start)
            except StartFailed as failed:
                yield failed

    def _start(
        self, local_rank: int, environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> WorkerProcess:
        if self._spawner is not None:
            payload = self._payloads[local_rank]
            cpus = self._cpus.get(local_rank, ())
            error_file = self.error_file(local_rank)
            return self._spawner.execute(payload, environment, stdout, stderr, cpus, error_file)
        start = self._fork if self.start_method == "fork" else self._ask_fork_server
        try:
            return start(local_rank, environment, stdout, stderr)
        except (OSError, EOFError) as error:
            reason = f"no process for local rank {local_rank}: {_reason_of(error)}"
            raise StartFailed(_NOT_STARTED, reason) from error

    def _ask_fork_server(
        self, local_rank: int, environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> WorkerProcess:
        # The server's own streams are those that we had when it was started.
        setup = ChildSetup(
            environment,
            stdout=Descriptor(1 if stdout is None else stdout),
            stderr=Descriptor(2 if stderr is None else stderr),
            cpus=self._cpus.get(local_rank, ()),
        )
        process = self._process(local_rank, setup)
        with self._pickling():
            process.start()
        return WorkerProcess(
            _pid_of(process),
            reap=lambda: _forget(process),
            lost_exitcode=lambda: process.exitcode,
            ended_fd=process.sentinel,
        )

    def _fds_not_for_workers(self) -> set[int]:
        """Return what a forked process must close: an end that it held would never come."""
        fds: set[int | None] = set()
        if self._guardian is not None:
            fds.update(self._guardian.inherited_fds)
        if self._reserve is not None:
            fds.update(self._reserve.fds)
        for local_rank in range(self.nprocs):
            fds.update(self._output.fds(local_rank))
        return {fd for fd in fds if fd is not None}

    def _fork(
        self, local_rank: int, environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> WorkerProcess:
        setup = ChildSetup(
            environment,
            stdout=None if stdout is None else Descriptor(stdout),
            stderr=None if stderr is None else Descriptor(stderr),
            cpus=self._cpus.get(local_rank, ()),
        )
        foreign = self._fds_not_for_workers() - {stdout, stderr}
        collects = gc.isenabled()
        die_with_parent = death_signal_for_children()
        with shielded_fork(handled_signals()) as reset_handlers:

            def begin() -> None:
                reset_handlers()
                die_with_parent()
                close_all(foreign)
                if collects:
                    gc.enable()

            process = self._process(local_rank, replace(setup, begin=begin))
            ourselves = os.getpid()
            gc.disable()  # the child must collect nothing of ours; it begins with a freeze
            try:
                process.start()
            finally:
                if os.getpid() != ourselves:  # nothing of the agent may run in the child
                    os._exit(1)
                if collects:
                    gc.enable()
        return WorkerProcess(
            _pid_of(process),
            reap=lambda: _forget(process),
            # multiprocessing reaps all of its own whenever it starts another.
            lost_exitcode=lambda: LOST_EXIT_CODE if process.exitcode is None else process.exitcode,
        )

    def _finish_start(self, start_wait: StartWait) -> Mapping[int, StartFailed]:
        self._payloads.clear()
        return {} if self._spawner is None else self._spawner.send(start_wait)

    def _kill_unloaded(self) -> None:
        if self._spawner is not None:
            self._spawner.kill_unloaded()

    def _take_return_value(self, local_rank: int) -> Any:
        file = self._results[local_rank]
        if not os.fstat(file.fileno()).st_size:
            return None  # it left by sys.exit(0)
        file.seek(0)
        try:
            return pickle.load(file)  # noqa: S301  of a process of ours, through a file of ours
        except Exception as error:  # the user's own types take part
            raise ValueError(
                f"the return value of {name_of(self._function)} on local rank {local_rank} can't "
                f"be read back: {error!r}; return what pickle can restore in the agent"
            ) from error

    def _clean_up(self) -> None:
        if self._spawner is not None:
            self._spawner.close()
        for file in self._results:
            file.close()

    def _process(self, local_rank: int, setup: ChildSetup | None = None) -> BaseProcess:
        task = Task(
            self._function,
            tuple(self.args[local_rank]),
            local_rank,
            self._descriptor(local_rank),
            setup,
        )
        new_process = cast("Any", multiprocessing.get_context(self.start_method)).Process
        process: BaseProcess = new_process(
            target=run, args=(task,), name=f"{self.name}-{local_rank}", daemon=False
        )
        return process

    def _descriptor(self, local_rank: int) -> Descriptor:
        return Descriptor(self._results[local_rank].fileno())

    @contextlib.contextmanager
    def _pickling(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError):  # no process, or multiprocessing's server has gone
            raise
        except Exception as error:  # how the user's own types pickle is the user's code
            raise ValueError(
                f"{name_of(self._function)} and its arguments can't be sent to a new process "
                f"(start_method={self.start_method!r}): {error}; give a function from the top "
                "level of a module and arguments that pickle can take, or start_method='fork'"
            ) from error


def _reason_of(error: OSError | EOFError) -> str:
    """Say why multiprocessing gives no process."""
    if isinstance(error, EOFError):
        return "multiprocessing's fork server has ended"
    reason = str(error.strerror or error)
    # It makes its server's socket in the temporary folder.
    return f"{reason}; give a shorter TMPDIR" if "AF_UNIX" in reason else reason


def _unnamed_file() -> IO[bytes]:
    """Return a file that nobody else can open, and that is not left behind, whoever is killed."""
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no place for temporary files takes any
        return open(os.memfd_create("elrun-result"), "w+b")


def _pid_of(process: BaseProcess) -> int:
    if process.pid is None:
        raise ValueError(f"{process.name} was not started")
    return process.pid


def _forget(process: BaseProcess) -> None:
    process.join()
    process.close()
