"""The small process that outlives its agent, to kill whatever the agent can't kill any more.

An agent may die in any way at any moment: SIGKILL, the out-of-memory killer, a fault in a library.
The kernel then kills the workers, whose parent-death signal it is, but nothing that they started.
So before the first worker, the agent forks a guardian. It learns from a pipe which workers there
are, sleeps until the agent has gone, kills all that belongs, removes what the agent had in
temporary folders, names the log files that it leaves there, and ends.

It is forked, not executed: that takes 1 ms and shares the agent's memory. It is a session of its
own, deaf to what is sent to the agent's group, and holds nothing of the agent's but the pipe and
standard error. One that is suspended when the agent dies is continued by the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import signal
import time

from ...rendezvous.logs import Log
from ..output.directories import remove_needless_now
from ..system.fork import handled_signals, shielded_fork
from ..system.pidfd import close_all, send_signal, wait_readable
from ..system.prctl import OrphanAdoption, continue_at_parents_death, process_namer
from ..system.process_tree import ProcessTree
from .stop import KILL_WAIT_S, end_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

log = Log(__name__)

# A scheduler sends some of these to every process of a job.
_IGNORED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
_EXIT_WAIT_S = 1.0
_WATCH, _FORGET, _FOLDER, _FINISH = b"+", b"-", b"/", b"!"


class Guardian:
    """The agent's handle of its guardian. While it is held, the agent adopts its workers' orphans.

    Args:
        mark: What the environment of each worker carries as ``ELRUN_AGENT``.
        witnessed: Signals of which it says that they have come to it, too.
    """

    def __init__(self, mark: str, witnessed: Collection[int] = ()) -> None:
        self.mark = mark
        self._adoption = OrphanAdoption.of_this_process()
        self.tree = ProcessTree(mark, takes_strangers=self._adoption.is_of_agent_alone)
        self._agent = os.getpid()
        witness, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if witnessed else (-1, -1)
        self.witness_fd = witness
        """Readable when a signal that it witnesses has come to it; -1: it witnesses none."""
        try:
            self._pid, self._pipe = _fork_guardian(self.tree, told, witnessed)
        except BaseException:
            close_all({witness} - {-1})
            raise
        finally:
            close_all({told} - {-1})
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except OSError:
            os.close(self._pipe)  # which ends it
            close_all({witness} - {-1})
            raise
        self.tree.add_helper(self._pid)
        self._adoption.hold()
        self._is_released = False
        self._is_deaf = False

    @classmethod
    def start(cls, mark: str | None = None, witnessed: Collection[int] = ()) -> Guardian:
        """Fork a guardian for this process.

        Args:
            mark: The agent's mark, of letters and digits; by default a random one.
            witnessed: Signals of which it says that they have come to it, too.

        Raises:
            OSError: There can be no more processes or descriptors.
        """
        return cls(mark or os.urandom(8).hex(), witnessed)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._pid

    def watch(self, pid: int, start: int) -> None:
        """Tell it of a worker.

        Args:
            pid: The worker's process id, which is its session id as well.
            start: Its start time, see `process_tree.Process`.
        """
        self.tree.add(pid, start)
        self._tell(_WATCH + b"%d %d\n" % (pid, start))

    def watch_helper(self, pid: int, start: int) -> None:
        """Tell it of a process that outlives the workers, but must not outlive the agent.

        Args:
            pid: The process id, which is its session id as well.
            start: Its start time, see `process_tree.Process`.
        """
        self.tree.add_helper(pid)
        self._tell(_WATCH + b"%d %d\n" % (pid, start))

    def watch_folder(self, path: str) -> None:
        """Tell it of a temporary folder, which it removes if the agent can't any more.

        Args:
            path: The folder; "" for none. Log files in it that are not empty are kept and named.
        """
        if path:
            self._tell(_FOLDER + os.fsencode(path).hex().encode() + b"\n")

    def forget(self, pid: int) -> None:
        """Tell it that nothing of a worker is left."""
        self.tree.remove(pid)
        self._tell(_FORGET + b"%d 0\n" % pid)

    @property
    def is_released(self) -> bool:
        """Whether it has been ended."""
        return self._is_released

    def release(self) -> None:
        """End it, with what is left of workers that nobody could stop.

        Does nothing in a forked child.
        """
        if self.tree.has_workers:
            self.finish()
        elif not self._is_released and os.getpid() == self._agent:
            self._end()

    def finish(self) -> None:
        """Have it kill all that is left and end: it has descriptors where the agent has none."""
        if self._is_released or os.getpid() != self._agent:
            return
        self._tell(_FINISH + b"\n")
        wait_readable({self._pidfd}, time.monotonic() + KILL_WAIT_S + _EXIT_WAIT_S)
        self._end()

    def _end(self) -> None:
        self._is_released = True
        send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        os.close(self._pipe)
        close_all({self.witness_fd} - {-1})
        self._adoption.release()

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """Descriptors that a forked child of the agent should close."""
        return (self._pidfd, self._pipe, *({self.witness_fd} - {-1}))

    def take_witnessed(self) -> bytes:
        """Return, once, the numbers of the signals that it has witnessed."""
        if self.witness_fd < 0 or self._is_released:
            return b""
        try:
            numbers = os.read(self.witness_fd, 1 << 10)
        except BlockingIOError:
            return b""
        if not numbers:  # it was killed: a pipe at its end would wake the agent for ever
            os.close(self.witness_fd)
            self.witness_fd = -1
        return numbers

    def has_pending(self, number: int) -> bool:
        """Return whether a signal was sent to it that it had no time to witness yet."""
        if self._is_released or self.witness_fd < 0:
            return False
        from ..system.process_states import signals_in  # few jobs

        return number in signals_in(self._pid, b"ShdPnd:")

    def _tell(self, message: bytes) -> None:
        if self._is_released:
            return
        try:
            os.write(self._pipe, message)
        except OSError as error:  # it was killed, or suspended for very long
            if self._is_deaf:
                return
            self._is_deaf = True  # once is enough
            log.warning(
                "the guardian (pid %d) does not listen (%s): if this agent is killed, what its "
                "workers started may stay behind",
                self._pid,
                error.strerror,
            )


def _fork_guardian(tree: ProcessTree, told: int, witnessed: Collection[int]) -> tuple[int, int]:
    # Whatever may wait for a lock (imports, the dynamic loader) is done before the fork: another
    # thread of the agent may hold it then, for ever.
    take_name = process_namer("elrun-guardian")
    be_continued = continue_at_parents_death()
    agent_pidfd = os.pidfd_open(os.getpid())
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with shielded_fork(handled_signals(), ignored=_IGNORED) as reset_handlers:
            pid = os.fork()
            if pid == 0:
                try:
                    gc.disable()  # no finalizer of the agent's objects may run here
                    os.setsid()
                    be_continued()
                    reset_handlers()
                    take_name()
                    console = _copy_of_standard_error()
                    if told >= 0:
                        _witness(told, witnessed)
                    _keep_only(read_end, agent_pidfd, console, told)
                    _guard(tree, read_end, agent_pidfd, console)
                finally:
                    os._exit(0)
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
        os.close(agent_pidfd)
    return pid, write_end


def _witness(told: int, witnessed: Collection[int]) -> None:
    """Have Python's handler in C write each of these signals' numbers to a pipe of the agent's."""
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)  # first: a signal may come at once
    for number in witnessed:
        signal.signal(number, lambda *_: None)


def _keep_only(*kept: int) -> None:
    # A pipe of the agent's that stayed open here would never end for its reader.
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))
    for fd in (0, 1, 2):
        if fd not in kept:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)


def _copy_of_standard_error() -> int:
    try:
        return fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:  # it is closed
        return -1


def _guard(tree: ProcessTree, pipe: int, agent_pidfd: int, console: int) -> None:
    folders: set[str] = set()
    if not _learn_until_agent_is_gone(tree, folders, pipe, agent_pidfd):
        end_tree(tree, os.getppid, time.monotonic() + KILL_WAIT_S)
        return
    # A process closes its pipes a moment before its children get another parent. (An agent that has
    # executed another program closed them, too, and doesn't die.)
    wait_readable({agent_pidfd}, time.monotonic() + _EXIT_WAIT_S)
    # With the agent dead, our own parent is whoever has adopted its children.
    end_tree(tree, os.getppid, time.monotonic() + KILL_WAIT_S)
    for folder in folders:
        if remove_needless_now(folder):
            _say(console, f"elrun: the agent was killed; log files are in {folder}")


def _say(console: int, line: str) -> None:
    if console < 0:
        return
    writable = select.poll()
    writable.register(console, select.POLLOUT)
    if writable.poll(0):  # else nobody reads it
        os.write(console, os.fsencode(line + "\n"))


def _learn_until_agent_is_gone(
    tree: ProcessTree, folders: set[str], pipe: int, agent_pidfd: int
) -> bool:
    """Return whether the agent has gone, rather than asked to finish."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    # The pipe alone would not do: a process that the agent forked may hold its other end.
    poll.register(agent_pidfd, select.POLLIN)
    unread = b""
    while True:
        events = dict(poll.poll())
        if pipe not in events:
            return True
        data = os.read(pipe, 1 << 16)
        if not data:
            return True
        *messages, unread = (unread + data).split(b"\n")
        for message in messages:
            if message == _FINISH:
                return False
            if message.startswith(_FOLDER):
                folders.add(os.fsdecode(bytes.fromhex(message[1:].decode())))
                continue
            pid, start = message[1:].split()
            if message.startswith(_WATCH):
                tree.add(int(pid), int(start))
            else:
                tree.remove(int(pid))
