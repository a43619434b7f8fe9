"""What runs inside a worker that is a Python function."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..failures.failure import ERROR_FILE_VARIABLE
from ..failures.record import get_error_handler, record
from ..system.prctl import die_with_parent
from ..system.process_tree import MARK_VARIABLE, mapping_name
from .inherited_exits import InheritedExits
from .process_end import end_at_once, end_worker, exit_code_of

_PREEMPTION = f"{__name__.rpartition('.processes.')[0]}.workers.preemption"


class Descriptor:
    """A file descriptor that stays usable when ``multiprocessing`` brings it into a new process.

    Args:
        fd: Its number in this process.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[[Any], Descriptor], tuple[Any]]:
        from multiprocessing.reduction import DupFd  # in use already

        return _receive_descriptor, (DupFd(self.fd),)


def _receive_descriptor(sent: Any) -> Descriptor:
    return Descriptor(sent.detach())


class InheritedDescriptor:
    """What stands for a descriptor that has the same number in the new process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """Return the number; the name is ``multiprocessing``'s."""
        return self._fd


@dataclass(frozen=True, slots=True)
class ChildSetup:
    """What a forked process must set up that an executed one is born with.

    Args:
        environment: The whole environment.
        stdout: What standard output becomes; None leaves it.
        stderr: What standard error becomes; None leaves it.
        cpus: CPUs to be bound to; none leaves them.
        begin: What is done first; None, where the process that forked was no agent.
    """

    environment: dict[str, str]
    stdout: Descriptor | None
    stderr: Descriptor | None
    cpus: Collection[int] = ()
    begin: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker does.

    Args:
        result: File for the pickled return value.
        setup: What to set up first; None in a process that was executed for this task.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    local_rank: int
    result: Descriptor
    setup: ChildSetup | None = None


def run(task: Task) -> None:
    """Run a task, and end the process; an exception is left in the error file.

    Raises:
        SystemExit: With the process's exit code, where Python can end it.
    """
    if task.setup is None:
        end_worker(_perform(task), None)
    try:
        # Both are kept to the end: the mapping is the mark by which the agent knows its own.
        mapping, inherited = _settle(task.setup), InheritedExits()
        end_worker(_perform(task), inherited)
    finally:  # whatever was raised: below stands a copy of the parent's stack
        end_at_once(1)
        del mapping, inherited


def _perform(task: Task) -> int:
    """Call the function; return the process's exit code when all that it raised is gone again."""
    try:
        _hand_over(record(task.function)(*task.args), task)
    except SystemExit as leaving:
        _keep_exit(leaving)
        return exit_code_of(leaving)
    except KeyboardInterrupt as error:
        _print(error)
        return -signal.SIGINT
    except BaseException as error:  # noqa: BLE001  the user's function may raise anything
        _print(error)
        return 1
    return 0


def _settle(setup: ChildSetup) -> mmap.mmap:
    gc.freeze()  # what is the parent's is neither collected nor flushed here
    os.setsid()
    if setup.begin is not None:
        setup.begin()
    else:
        die_with_parent(os.getppid())
    if setup.cpus:
        from .process import bind_to  # few jobs

        bind_to(setup.cpus)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(setup.environment)
    if (asked := sys.modules.get(_PREEMPTION)) is not None:
        asked.begin_worker()
    if setup.stdout is not None:
        sys.stdout = _become(setup.stdout, 1, sys.stdout)
    if setup.stderr is not None:
        sys.stderr = _become(setup.stderr, 2, sys.stderr)
    return _carry_mark(setup.environment[MARK_VARIABLE].rpartition(":")[2])


def _become(descriptor: Descriptor, fd: int, stream: Any) -> Any:
    os.dup2(descriptor.fd, fd)
    os.close(descriptor.fd)
    try:
        if stream.fileno() == fd:
            return stream
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        pass
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _carry_mark(mark: str) -> mmap.mmap:
    # The environment that /proc shows is that of the last exec. A mapping is there for all to see,
    # and every process forked from here inherits it.
    fd = os.memfd_create(mapping_name(mark))
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def _hand_over(value: Any, task: Task) -> None:
    try:
        with open(task.result.fd, "wb") as file:
            pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as cause:  # how the user's own types pickle is the user's code
        is_refused = isinstance(cause, OSError)  # no room; or the function has closed all files
        advice = "" if is_refused else "; return what pickle can take"
        error = TypeError(
            f"the return value of {name_of(task.function)} on local rank {task.local_rank} "
            f"can't be sent to the agent: {cause}{advice}"
        )
        get_error_handler().record_exception(error)
        raise error from cause


def name_of(function: Callable[..., Any]) -> str:
    """Return how messages call a function."""
    return str(getattr(function, "__qualname__", None) or repr(function))


def _keep_exit(leaving: SystemExit) -> None:
    with contextlib.suppress(Exception):  # the user's types, a full disk: the end is no other
        from .left_exit import leave_exit  # few ends

        leave_exit(leaving, _of_user(leaving), os.environ.get(ERROR_FILE_VARIABLE, ""))


def _print(error: BaseException) -> None:
    with contextlib.suppress(Exception):  # the user's __str__ or stream, or too deep a recursion
        sys.stdout.flush()
        traceback.print_exception(type(error), error, _of_user(error))
        sys.stderr.flush()


def _of_user(error: BaseException) -> TracebackType | None:
    """Return a traceback that begins with the user's function, not with what led there."""
    own = (__file__, record.__code__.co_filename)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    return trace
