"""Workers that are commands: programs executed with arguments."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from .forking import handled_signals, shielded_fork
from .parent_death import death_signal_for_children
from .pcontext import PContext
from .process_results import StartFailed
from .worker_process import WorkerProcess

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # what a shell reports


class SubprocessContext(PContext):
    """Workers that execute a program. It is started by ``start_processes``.

    Args:
        *args: See ``PContext``.
        executor: What starts the program.
        **options: See ``PContext``.
    """

    def __init__(self, *args: Any, executor: Executor | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._given_executor = executor

    def _prepare(self) -> None:
        self._executor = self._given_executor or Executor()

    def _launch(
        self, local_rank: int, environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> WorkerProcess:
        command = [str(self.entrypoint), *map(str, self.args[local_rank])]
        return self._executor.execute(command, environment, stdout, stderr)


class Slot:
    """A descriptor number that stands for whatever is put there, and for nothing else."""

    def __init__(self) -> None:
        self.number = os.open(os.devnull, os.O_RDONLY)

    @contextlib.contextmanager
    def hold(self, fd: int) -> Iterator[int]:
        """Put a descriptor there for a while, and give the number."""
        os.dup2(fd, self.number, inheritable=False)
        try:
            yield self.number
        finally:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, self.number, inheritable=False)
            os.close(nothing)

    def close(self) -> None:
        """Give the number back."""
        os.close(self.number)


class Executor:
    """Executes programs as sessions of their own that die with this process."""

    package_slot: Slot | None = None
    """Where an interpreter that runs a function has to find it; None: anywhere."""

    def __init__(self) -> None:
        self._handled = handled_signals()
        self._die_with_parent = death_signal_for_children()

    def execute(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        stdout: int | None,
        stderr: int | None,
        inherited_fds: Collection[int] = (),
    ) -> WorkerProcess:
        """Execute a program.

        Args:
            command: The program, found through the environment's PATH, and its arguments.
            environment: Its whole environment.
            stdout: What its standard output becomes; None: our own.
            stderr: What its standard error becomes; None: our own.
            inherited_fds: Further descriptors that it is to have.

        Raises:
            StartFailed: There is no such program, or it can't be executed.
            ValueError: An argument or a variable can't be passed to any program.
        """
        with shielded_fork(self._handled) as reset_handlers:

            def begin() -> None:
                reset_handlers()
                self._die_with_parent()

            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                    preexec_fn=begin,  # noqa: PLW1509  it takes no lock: that is what makes it safe
                    pass_fds=tuple(inherited_fds),
                )
            except OSError as error:
                raise _explain(command[0], error) from error
        return WorkerProcess(process.pid, reap=process.wait)


def _explain(program: str, error: OSError) -> StartFailed:
    exitcode = _NOT_EXECUTABLE
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        exitcode = _NOT_FOUND
        if os.path.exists(program):  # a script
            reason = "the interpreter that its first line names is not there"
        elif "/" not in program:
            reason = "there is no such program in PATH"
    elif os.path.isdir(program):
        reason = "it is a directory"
    elif error.errno == errno.ENOEXEC:
        reason = "it is no program of this machine, or a script without a '#!' line"
    elif error.errno == errno.EACCES:
        reason = "permission denied; is it executable (chmod +x)?"
    return StartFailed(exitcode, f"{program!r} can't be executed: {reason}")
