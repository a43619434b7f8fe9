"""Executes programs in children of this process, and waits for none before it begins the next.

``subprocess`` waits until a program is loaded, takes 3 ms to import, and has only its slowest way
for a child that is to die with its parent. Here the agent forks a child, the child does the few
things that belong between fork and exec, and it reports through a pipe if exec fails. All children
share that pipe: EOF means that every child has exec'ed or exited. EOF may never come: a file system
may not answer, or a debugger may hold a child. So the agent waits for the pipe and for signals
together. At a stop it kills each child that is still a copy of the agent: such a child has nothing
to save.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time

from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..system.fork import fd_closer, handled_signals, shielded_fork
from ..system.pidfd import NEVER, close_all, wait_briefly
from ..system.prctl import death_signal_for_children
from ..system.process_tree import is_still_a_copy
from .process import WorkerProcess, bind_to
from .results import NOT_EXECUTABLE, StartFailed, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import NoReturn

    from .slot import Slot

log = Log(__name__)

_TELL_AFTER_S = 5.0

_LOADING_S = 0.02
"""How long this process sleeps, deaf to signals, while its last children load their programs."""

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


SCRIPT_ON_INPUT = "elrun-script"
"""Name of the file that standard input is where it holds the workers' script."""

_INPUT = "/proc/self/fd/0"


class StartWait(NamedTuple):
    """How it is waited for that programs are loaded.

    Args:
        is_unwanted: Says whether the start is not to be waited for any more.
        wait: Waits until one of the descriptors is readable, something happens that may have made
            the start unwanted, or the time in seconds has passed.
        on_begin: Called once all processes have been started: what takes the caller long is done
            while programs are being loaded, before anything is shown of what they print. It is
            called, too, when these processes are to be stopped and take long to end.
    """

    is_unwanted: Callable[[], bool] = lambda: False
    wait: Callable[[Sequence[int], float | None], object] = wait_briefly
    on_begin: Callable[[], object] = lambda: None


class Order(NamedTuple):
    """A program that is to be executed; see ``Executor.execute``."""

    command: Sequence[str]
    environment: Mapping[str, str]
    stdout: int | None
    stderr: int | None
    inherited_fds: Collection[int] = ()
    cpus: Collection[int] = ()

    @contextlib.contextmanager
    def copies(self) -> Iterator[dict[int, int]]:
        """Give copies of the descriptors that it is to have, by the number they have there."""
        handed = {fd: fd for fd in self.inherited_fds}
        streams = ((1, self.stdout), (2, self.stderr))
        handed |= {number: fd for number, fd in streams if fd is not None}
        with script_from_its_beginning() as script, _copies_of(handed | script) as copies:
            yield copies


class Executor:
    """Executes programs as sessions of their own that die with this process."""

    payload_slot: Slot | None = None
    """Where an interpreter that runs a function has to find it; None: anywhere."""

    def __init__(self) -> None:
        self._handled = handled_signals().union(_IGNORED_BY_PYTHON)
        self._die_with_parent = death_signal_for_children()
        self._close_others = fd_closer()
        self._programs: dict[int, str] = {}
        self._reports_fd = self._report_fd = -1

    def execute(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdout: int | None,
        stderr: int | None,
        inherited_fds: Collection[int] = (),
        cpus: Collection[int] = (),
    ) -> WorkerProcess:
        """Execute a program; whether there is one to execute, ``settle`` tells.

        Args:
            command: The program, found through the environment's PATH, and its arguments.
            environment: Its whole environment.
            stdout: What its standard output becomes; None: our own.
            stderr: What its standard error becomes; None: our own.
            inherited_fds: Further descriptors that it is to have.
            cpus: CPUs that it is bound to; none: those of this process.

        Raises:
            StartFailed: There can be no more processes.
            ValueError: An argument or a variable can't be passed to any program.
        """
        order = Order(command, environment, stdout, stderr, inherited_fds, cpus)
        (started,) = self.execute_all([order])
        if isinstance(started, StartFailed):
            raise started
        return started

    def execute_all(
        self, orders: Sequence[Order], *, are_last: bool = False
    ) -> Iterable[WorkerProcess | StartFailed]:
        """Execute programs, one right after the other; return each one's process, or why none is.

        After a fork the kernel copies each page that this process or its child writes to. So all
        is prepared before the first fork, and what else a new process takes follows the last one.

        Args:
            orders: The programs.
            are_last: Whether ``settle`` is what follows: then this process sleeps for a moment,
                until the programs are loaded, so that it takes no CPU from its children meanwhile.

        Raises:
            ValueError: An argument or a variable can't be passed to any program.
        """
        programs = [_Program.of(order.command, order.environment) for order in orders]
        pids: list[int | OSError] = []
        with contextlib.ExitStack() as held:
            copies: list[dict[int, int]] = []
            try:
                if self._report_fd < 0:
                    self._reports_fd, self._report_fd = _pipe()
                copies += [held.enter_context(order.copies()) for order in orders]
            except OSError as error:
                if len(orders) > 1:  # one by one they need fewer descriptors at a time
                    held.close()
                    return [each for order in orders for each in self.execute_all([order])]
                pids.append(error)
            reset_handlers = held.enter_context(shielded_fork(self._handled))
            for at, fds in enumerate(copies):
                pids.append(self._fork(programs[at], fds, orders[at].cpus, reset_handlers))
        taken = [self._take(pid, order.command[0]) for pid, order in zip(pids, orders, strict=True)]
        if are_last and self._reports_fd >= 0:
            self._close_report()
            wait_briefly([self._reports_fd], _LOADING_S)
        return taken

    def _fork(
        self,
        program: _Program,
        copies: Mapping[int, int],
        cpus: Collection[int],
        reset_handlers: Callable[[], None],
    ) -> int | OSError:
        try:
            pid = os.fork()
        except OSError as error:
            return error
        if pid == 0:
            number = errno.EIO
            try:
                os.setsid()
                reset_handlers()
                self._die_with_parent()
                if cpus:
                    bind_to(cpus)
                _arrange(copies, self._report_fd, self._close_others)
                program.replace_this()
            except OSError as error:
                number = error.errno or number
            finally:
                _end_child(self._report_fd, number)
        return pid

    def _take(self, pid: int | OSError, program: str) -> WorkerProcess | StartFailed:
        if isinstance(pid, OSError):
            return explain(program, pid)
        try:
            process = WorkerProcess(pid)
        except OSError as error:  # there can be no more descriptors
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return explain(program, error)
        self._programs[pid] = program
        return process

    def settle(self, start_wait: StartWait | None = None) -> dict[int, StartFailed]:
        """Wait until all programs are loaded; return why some are not, by process id.

        The processes of these have ended. Once the start is unwanted, nothing is waited for; the
        caller is expected to call ``kill_unloaded`` and ``close``.

        Args:
            start_wait: How it is waited for; by default as long as it takes.
        """
        if self._reports_fd < 0:
            return {}
        self._close_report()
        text = self._read_reports(start_wait or StartWait())
        if text is None:
            return {}
        failures = {}
        for line in text.splitlines():
            pid, number = map(int, line.split())
            if pid not in self._programs:  # it was killed, since it could not be watched
                continue
            with contextlib.suppress(ChildProcessError):  # somebody else has reaped it
                os.waitid(os.P_PID, pid, os.WEXITED)
            failures[pid] = explain(self._programs[pid], OSError(number, os.strerror(number)))
        self.close()
        return failures

    def kill_unloaded(self) -> None:
        """Kill the children that have not become their programs: they have nothing to save."""
        for pid in self._unloaded():
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so that the id is still its own

    def _read_reports(self, start_wait: StartWait) -> bytes | None:
        """Return what the children have reported, None once the start is unwanted."""
        tell_at = time.monotonic() + _TELL_AFTER_S
        text = b""
        while not start_wait.is_unwanted():
            if wait_briefly([self._reports_fd], 0):
                data = os.read(self._reports_fd, 1 << 16)
                if not data:
                    return text
                text += data
                continue
            left_s = tell_at - time.monotonic()
            if left_s <= 0:
                self._tell_of_unloaded()
                tell_at = NEVER
            start_wait.wait([self._reports_fd], None if tell_at == NEVER else max(0.0, left_s))
        return None

    def _unloaded(self) -> list[int]:
        return [pid for pid in self._programs if is_still_a_copy(pid)]

    def _tell_of_unloaded(self) -> None:
        pids = self._unloaded()
        if pids:
            log.warning(
                "not loaded within %g s: %s (pid %s); the file system may not answer, or a "
                "debugger may hold the process",
                _TELL_AFTER_S,
                ", ".join(sorted({repr(self._programs[pid]) for pid in pids})),
                ", ".join(map(str, pids)),
            )

    def _close_report(self) -> None:
        """Leave the pipe's writing end to the children alone: its end is theirs."""
        if self._report_fd >= 0:
            os.close(self._report_fd)
            self._report_fd = -1

    def close(self) -> None:
        """Ask no more what became of the programs."""
        fds = self._reports_fd, self._report_fd
        self._reports_fd = self._report_fd = -1
        close_all(fd for fd in fds if fd >= 0)
        self._programs.clear()


@contextlib.contextmanager
def script_from_its_beginning() -> Iterator[dict[int, int]]:
    """Give what a worker's standard input becomes, by its number, where the script stands there.

    Workers that inherited it would share one place of reading. Another standard input is inherited.
    """
    try:
        is_script = os.readlink(_INPUT).startswith(f"/memfd:{SCRIPT_ON_INPUT}")
    except OSError:  # it is closed
        is_script = False
    if not is_script:
        yield {}
        return
    fd = os.open(_INPUT, os.O_RDONLY)
    try:
        yield {0: fd}
    finally:
        os.close(fd)


class _Program(NamedTuple):
    """What is executed, as the kernel takes it."""

    paths: list[bytes]
    arguments: list[bytes]
    environment: dict[bytes, bytes]

    @staticmethod
    def of(command: Sequence[str], environment: Mapping[str, str]) -> _Program:
        arguments = [os.fsencode(word) for word in command]
        encoded = {os.fsencode(name): os.fsencode(text) for name, text in environment.items()}
        if any(b"\0" in text for text in (*arguments, *encoded, *encoded.values())):
            raise ValueError("an argument or a variable holds a null byte; take it out")
        if any(b"=" in name for name in encoded):
            raise ValueError("the name of a variable holds '='; take it out")
        paths = arguments[:1]
        if b"/" not in arguments[0]:
            folders = os.get_exec_path(dict(environment))
            paths = [os.path.join(os.fsencode(folder), arguments[0]) for folder in folders]
        return _Program(paths, arguments, encoded)

    def replace_this(self) -> NoReturn:
        """Become the program; raise OSError as the shell would choose it."""
        failure = None
        for path in self.paths:
            try:
                os.execve(path, self.arguments, self.environment)  # noqa: S606  that is the task
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                failure = error
        raise failure or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def _copies_of(handed: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Give copies, above the standard streams, of the descriptors that a child is to have.

    Python runs at-fork functions in the child before anything of ours: those of libraries, and
    from some 3.13 and 3.14 on one of ``multiprocessing``'s that closes the resource tracker's
    descriptor (gh-146313), which an interpreter that we execute needs. They close what they know
    by its number, and know of no copy. A copy also lets one descriptor be meant for the place of
    another.

    Args:
        handed: The descriptors by the number that they are to have in the child.
    """
    copies: dict[int, int] = {}
    try:
        for number, fd in handed.items():
            copies[number] = _above_streams(fd)
        yield copies
    finally:
        close_all(copies.values())


def _arrange(
    copies: Mapping[int, int], report_fd: int, close_others: Callable[[Collection[int]], None]
) -> None:
    for number, fd in copies.items():
        os.dup2(fd, number)
    close_others({0, 1, 2, report_fd, *copies})


def _end_child(report_fd: int, number: int) -> NoReturn:
    """End a child that is no program, whatever happens: nothing of the agent may go on there."""
    try:
        os.write(report_fd, b"%d %d\n" % (os.getpid(), number))
    finally:
        os._exit(NOT_EXECUTABLE)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose writing end is none of the standard streams, were they all closed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        return reading, _above_streams(writing)
    finally:
        os.close(writing)


def _above_streams(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
