"""Which processes of this machine belong to an agent: its workers, and all that came from them.

Every worker is a session of its own, so nothing that descends from it can be in the agent's session
or in that of a kernel thread. What descends from it is found by one of three marks:

1. its session is a worker's;
2. one of its ancestors belongs;
3. it was orphaned, has been adopted by the agent (or, once that is dead, by whoever adopts the
   agent's children), and carries the agent's mark: ``ELRUN_AGENT`` in the environment it was
   executed with, or, where a function worker forked it and it executed nothing, a mapping's name.

Whatever was found once belongs for ever, also when it has been orphaned and carries no mark.

The third rule asks for the adoption on purpose. A mark alone travels far: a worker that submits a
batch job hands its whole environment to it, and that job may start on the same machine while this
one is being stopped. It is no child of ours, and must live.

Process ids are reused. A process is therefore named by its id with its start time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select

from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

MARK_VARIABLE = "ELRUN_AGENT"
"""Marks of agents, separated by colons: an agent in a worker of another adds its own."""

# Positions in /proc/PID/stat after the command's name, see proc(5).
_STATE, _PARENT, _GROUP, _SESSION, _FLAGS, _START = 0, 1, 2, 3, 6, 19
_ENVIRONMENT_START, _ENVIRONMENT_END = 47, 48

_ENDED = (b"Z", b"X")
_FORKED_ONLY = 0x40  # PF_FORKNOEXEC of the kernel

_EXEC_LOOKS, _EMPTY_LOOKS = 1000, 10

_MOST_THREADS = 32
"""To ask more threads for their children costs more than a look at each process."""


class Process(NamedTuple):
    """A process as the kernel shows it.

    Args:
        pid: Its process id.
        start: When it started, in clock ticks since boot; no two have both this and the id alike.
        parent: Process id of its parent.
        group: Its process group id.
        ended: Whether it has ended and waits to be reaped.
    """

    pid: int
    start: int
    parent: int
    group: int
    session: int
    ended: bool

    @property
    def key(self) -> tuple[int, int]:
        """What no other process has alike: the id and the start."""
        return self.pid, self.start


def marked(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """Return an environment that carries an agent's mark, besides those that it carries already."""
    marks = [environment.get(MARK_VARIABLE), mark]
    return {**environment, MARK_VARIABLE: ":".join(filter(None, marks))}


NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
"""Why nothing can be opened though it may be there."""


def mapping_name(mark: str) -> str:
    """Return the name of the mapping by which a forked function worker carries a mark."""
    return f"elrun-{mark}"


def read_process(pid: int) -> Process | None:
    """Return what the kernel says about a process; None where there is none.

    Raises:
        OSError: There can be no more descriptors.
    """
    fields = _stat_fields(pid)
    if len(fields) <= _START:
        return None
    start, parent, group, session = (int(fields[at]) for at in (_START, _PARENT, _GROUP, _SESSION))
    return Process(pid, start, parent, group, session, fields[_STATE] in _ENDED)


def is_still_a_copy(pid: int) -> bool:
    """Return whether a process is a copy of the one that forked it: it has executed nothing yet."""
    fields = _stat_fields(pid)
    is_alive = len(fields) > _START and fields[_STATE] not in _ENDED
    return is_alive and bool(int(fields[_FLAGS]) & _FORKED_ONLY)


def read_adopted(pid: int) -> list[int]:
    """Return the children of a process's main thread, which is the one that adopts orphans.

    Where the kernel was built without that list, nothing is returned.
    """
    return _listed_children(pid) or []


def reap(processes: Iterable[Process], spare: Iterable[int] = ()) -> None:
    """Reap those of the processes that are children of ours and have ended.

    Args:
        processes: What may be reaped.
        spare: Process ids that must not be.
    """
    ourselves = os.getpid()
    pids = {process.pid: process.start for process in processes}
    for pid in pids.keys() - set(spare):
        now = read_process(pid)
        if now is not None and now.ended and (now.parent, now.start) == (ourselves, pids[pid]):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def carries_mark(pid: int, mark: str, *, is_mapped: bool = True) -> bool:
    """Return whether a process carries an agent's mark, as far as we may see.

    Args:
        is_mapped: Whether a mapping may carry it, too.
    """
    variable = f"{MARK_VARIABLE}=".encode()
    for entry in _read_environment(pid).split(b"\0"):
        if entry.startswith(variable) and mark.encode() in entry[len(variable) :].split(b":"):
            return True
    name = f"/memfd:{mapping_name(mark)} ".encode()
    return is_mapped and name in (_read(f"/proc/{pid}/maps") or b"")


def find_relatives(
    processes: Mapping[int, Process],
    workers: Mapping[int, int],
    reaper: int,
    is_marked: Callable[[int], bool],
    known: Container[tuple[int, int]] = (),
) -> list[Process]:
    """Return those of the processes that belong to the workers, the workers among them.

    Args:
        processes: What runs, by process id.
        workers: The workers' start times by process id.
        reaper: Who adopts the workers' orphans.
        is_marked: Tells whether the process of an id carries the agent's mark.
        known: What was found to belong before, as ids with start times.
    """
    sessions = {
        pid
        for pid, start in workers.items()
        if pid not in processes or processes[pid].start == start
    }
    verdicts: dict[int, bool] = {}
    for pid in processes:
        line: list[Process] = []
        ancestor: Process | None = processes[pid]
        while ancestor is not None and ancestor.pid not in verdicts:
            verdicts[ancestor.pid] = False  # parents read at different times may form a ring
            line.append(ancestor)
            ancestor = processes.get(ancestor.parent)
        belongs = ancestor is not None and verdicts[ancestor.pid]
        for process in reversed(line):
            belongs = (
                belongs
                or process.session in sessions
                or process.pid in sessions
                or (process.pid, process.start) in known
                or (process.parent == reaper and is_marked(process.pid))
            )
            verdicts[process.pid] = belongs
    return [process for pid, process in processes.items() if verdicts[pid]]


class ProcessTree:
    """The processes of one agent's workers, found anew at each question.

    Args:
        takes_strangers: Whether the agent's process has no children but its workers and helpers:
            then any other of a foreign session is an orphan that it has adopted.
    """

    def __init__(self, mark: str, *, takes_strangers: bool = False) -> None:
        self.mark = mark
        self._takes_strangers = takes_strangers
        self._helpers: set[int] = set()
        self._agent_session = os.getsid(0)
        self._workers: dict[int, int] = {}
        self._known: set[tuple[int, int]] = set()
        self._abandoned: set[tuple[int, int]] = set()

    def add(self, pid: int, start: int) -> None:
        """Count a worker in; its start time says which process of that id is meant."""
        self._helpers.discard(pid)  # it has waited for the attempt whose worker it is
        self._workers[pid] = start

    def remove(self, pid: int) -> None:
        """Forget a worker, whose session must be empty, or a helper."""
        self._workers.pop(pid, None)
        self._helpers.discard(pid)

    def is_worker(self, pid: int) -> bool:
        """Return whether a process id is a worker's."""
        return pid in self._workers

    @property
    def has_workers(self) -> bool:
        """Whether there are workers of which it isn't known that they have gone."""
        return bool(self._workers)

    def add_helper(self, pid: int) -> None:
        """Count a child of the agent's in that is no worker: it is not taken for an orphan."""
        self._helpers.add(pid)

    def has_orphan(self, process: Process) -> bool:
        """Return whether a child of the agent's is one that it has adopted."""
        if self.is_worker(process.pid) or process.pid in self._helpers:
            return False
        is_foreign = process.session != self._agent_session
        return process.session in self._workers or (self._takes_strangers and is_foreign)

    def reap_orphans(self) -> None:
        """Reap orphans that the agent has adopted and that have ended.

        Raises:
            OSError: There can be no more descriptors.
        """
        for pid in read_adopted(os.getpid()):
            process = None if self.is_worker(pid) else read_process(pid)
            if process is not None and process.ended and self.has_orphan(process):
                reap([process])

    def abandon(self, process: Process) -> None:
        """Count a process out that can't be killed."""
        self._abandoned.add((process.pid, process.start))

    def members(self, reaper: int) -> list[Process]:
        """Return the processes that belong, those among them that wait to be reaped too.

        Args:
            reaper: Who adopts the workers' orphans: the agent while it lives.
        """
        found = self._workers_alone(reaper)
        if found is None:
            found = find_relatives(
                self._candidates(),
                self._workers,
                reaper,
                is_marked=self._is_marked,
                known=self._known,
            )
        self._known = {process.key for process in found}
        return found

    def is_certainly_over(self) -> bool:
        """Return whether all workers have ended and nothing is left of them; one look shows it.

        Then nobody is there who could start anything, so that no second look is needed.
        """
        alone = self._workers_alone(os.getpid())
        return alone is not None and all(process.ended for process in alone)

    def leftovers(self) -> list[Process]:
        """Return what the workers left running, once all of them have ended."""
        found = self.members(os.getpid())
        return [each for each in found if not each.ended and not self.is_worker(each.pid)]

    def _workers_alone(self, reaper: int) -> list[Process] | None:
        """Return the workers if nothing else is left of them; None where that isn't known.

        The agent has adopted whatever lost its parent: all that is left descends from a worker that
        runs, or from another child of the agent's. Without such a child there is no need to look at
        each process of the machine, which takes milliseconds before a signal is sent.
        """
        if reaper != os.getpid():
            return None
        found = []
        for pid, start in self._workers.items():
            process = read_process(pid)
            if process is not None and process.start == start:
                if not process.ended and not _has_no_child(pid):
                    return None
                if process.key not in self._abandoned:
                    found.append(process)
        children = _listed_children(reaper)  # only now: nothing of them can be added any more
        if children is None or {*children} - self._helpers - self._workers.keys():
            return None
        return found

    def _is_marked(self, pid: int) -> bool:
        # Only workers carry a mapping, and those of a helper with torch take a millisecond to read.
        return carries_mark(pid, self.mark, is_mapped=pid not in self._helpers)

    def _candidates(self) -> dict[int, Process]:
        ourselves = os.getpid()
        found: dict[int, Process] = {}
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            pid = int(name)
            # Asking for the session is a fifth of the price of reading the rest.
            if pid == ourselves or (self._is_foreign_session(pid) and pid not in self._workers):
                continue
            process = read_process(pid)
            if process is not None and (pid, process.start) not in self._abandoned:
                found[pid] = process
        return found

    def _is_foreign_session(self, pid: int) -> bool:
        try:
            return os.getsid(pid) in (0, self._agent_session)
        except OSError:
            return True


def _read_environment(pid: int) -> bytes:
    """Return the environment that a process was executed with; nothing where we may not know."""
    empty_looks = 0
    for _ in range(_EXEC_LOOKS):
        environment = _read(f"/proc/{pid}/environ")
        if environment is None:
            break
        fields = _stat_fields(pid)
        if environment or len(fields) <= _ENVIRONMENT_END or fields[_STATE] in _ENDED:
            return environment
        # In the middle of an exec a process has no environment. It is over when the program has
        # been loaded, and nothing tells when that is: so the emptiness has to last.
        empty_looks += b"0" != fields[_ENVIRONMENT_START] == fields[_ENVIRONMENT_END]
        if empty_looks == _EMPTY_LOOKS:
            break
        select.poll().poll(1)
    return b""


def _listed_children(pid: int) -> list[int] | None:
    children = _read(f"/proc/{pid}/task/{pid}/children")
    return None if children is None else [int(child) for child in children.split()]


def _has_no_child(pid: int) -> bool:
    """Return whether it is certain, and cheap to find out, that a process has no child.

    The children of a thread that ends become another thread's: so no thread may end meanwhile.
    """
    threads = _threads(pid)
    if not 0 < len(threads) <= _MOST_THREADS:
        return False
    lists = (_read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return all(children == b"" for children in lists) and _threads(pid) == threads


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended, or there is no descriptor
        return []


def _stat_fields(pid: int) -> list[bytes]:
    text = _read(f"/proc/{pid}/stat", is_short=True) or b""
    return text[text.rfind(b")") + 2 :].split()


def _read(path: str, *, is_short: bool = False) -> bytes | None:
    """Return the content of a file, of which the kernel hands out a short one in one piece."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:  # it has ended, or is another user's
        if error.errno in NO_DESCRIPTORS:
            raise
        return None
    try:
        if is_short:
            return os.read(fd, 1 << 12)
        chunks = []
        while chunk := os.read(fd, 1 << 17):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:  # it ended while we read
        return None
    finally:
        os.close(fd)
