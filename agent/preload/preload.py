"""Starts workers by forking them from a process that has imported modules already.

Importing torch takes a second, forking a process that has done so a hundredth of it. The
preloading process is the workers' own command, ``python script.py``, stopped in the middle of its
start: ``hook/fork_server.py`` tells how, and why that is safe. Here is the agent's side:
which commands can be started so, how the process is started, asked for workers, and given up.

Preloading is a favour. Whatever keeps it from working is one warning, and the workers are executed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ...rendezvous.logs import Log
from ..processes.executor import StartWait
from ..processes.guardian import Guardian
from ..processes.process import WorkerProcess
from ..processes.results import StartFailed
from ..processes.slot import Slot
from ..system.process_tree import MARK_VARIABLE, mapping_name
from ..workers.environment import with_hook
from ..workers.interpreter import program_of
from .fork_server_process import ForkServerProcess
from .forked import ForkedProcess, greet_group
from .lessons import Learnt
from .waiting import WaitingWorkers

log = Log(__name__)

_PROGRAM = os.path.join(os.path.dirname(__file__), "hook", "fork_server.py")
AUTO = "auto"
"""Stands, in the place of a module, for all that the script imports and that takes long."""

_PRELOAD_VARIABLE = "ELRUN_PRELOAD"
IMPORT_S = 300.0  # torch takes a second, and 40 from a cold file system of many users
_FINALIZE_S = 1.0  # to delete the temporary folders that modules have made


class Preloading:
    """A process that imports modules, then is forked for each worker.

    Args:
        command: What each worker runs; what follows the script may differ from worker to worker.
        payload_slot: Where the command looks for the function that it runs.
        start_wait: How it is waited for that the command is loaded.
        patience_s: How long the modules may take.

    Raises:
        ValueError: The command can't be started so; the sentence says why.
        StartFailed: It can't be executed.
    """

    def __init__(
        self,
        modules: Sequence[str],
        command: Sequence[str],
        environment: Mapping[str, str],
        guardian: Guardian,
        payload_slot: Slot | None = None,
        start_wait: StartWait | None = None,
        patience_s: float = IMPORT_S,
    ) -> None:
        self.program = tuple(program_of(command, environment.get("PATH", os.defpath)))
        self.modules = tuple(modules)
        self.payload_slot = payload_slot
        self._patience_s = patience_s
        self._give_up_at: float | None = time.monotonic() + patience_s
        self._is_loading = True
        self._is_usable = False
        self.has_torch = False  # known once it is usable
        self.waiting = WaitingWorkers(self, guardian)
        self._ahead: list[ForkedProcess] = []
        self._server = ForkServerProcess(
            command,
            lambda fd: _with_fork_server(modules, environment, fd),
            start_wait,
        )
        guardian.watch_helper(self._server.pid, self._server.process.start)

    @property
    def pid(self) -> int:
        """Process id of the preloading process."""
        return self._server.pid

    def waited_s(self) -> float:
        """Return how many seconds the process has been ready to run, and had no CPU."""
        try:
            with open(f"/proc/{self._server.pid}/schedstat", "rb") as file:
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # it has ended, or the kernel doesn't count
            return 0.0

    @property
    def is_usable(self) -> bool:
        """Whether processes can be forked now."""
        return self._is_usable

    @property
    def can_start_workers(self) -> bool:
        """Whether workers can be forked, or wait already."""
        return self._is_usable or self.waiting.ready_count > 0

    @property
    def has_given_up(self) -> bool:
        """Whether nothing will be forked any more."""
        return not (self._is_usable or self._is_loading)

    def filenos(self) -> list[int]:
        """Return what becomes readable when ``is_settled`` may have changed."""
        return self._server.filenos() if self._is_loading else []

    def patience_left_s(self) -> float | None:
        """Return after how many seconds ``is_settled`` changes if nothing else changes it."""
        at = self._give_up_at
        return None if at is None else max(0.0, at - time.monotonic())

    def is_settled(self) -> bool:
        """Look whether the modules are imported, or it is known that they won't be."""
        if self._is_loading and self._server.has_answered():
            self._is_loading = False
            try:
                answer = self._server.read_answer()
                refusal, self.has_torch = answer["refusal"], answer["has_torch"]
            except OSError:
                refusal = f"the preloading process {self._server.describe_end()} while it imported"
            if refusal:
                self.give_up(refusal)
            else:
                self._is_usable = True
        elif self._is_loading and self.patience_left_s() == 0:
            self._is_loading = False
            self._server.kill()
            self.give_up(f"not imported within {self._patience_s:g} s")
        return not self._is_loading

    def import_more(
        self, learnt: Sequence[Learnt], asking: Collection[str], *, out_of_the_way: bool
    ) -> None:
        """Have modules imported besides; ``is_settled`` follows.

        It may take as long as it takes. Meanwhile only those start that wait already.

        Args:
            asking: Modules that must not be among what they import.
            out_of_the_way: Whether that is to take no CPU that others want.
        """
        self.waiting.settle()
        if not self._is_usable:
            return
        self.modules += tuple(each.name for each in learnt)
        self._is_usable, self._is_loading, self._give_up_at = False, True, None
        request = {
            "modules": [each._asdict() for each in learnt],
            "asking": sorted(asking),
            "out_of_the_way": out_of_the_way,
        }
        try:
            self._server.send(request, ())
        except OSError:
            self._is_loading = False
            self.give_up(f"the preloading process {self._server.describe_end()}")

    def hurry(self) -> None:
        """Let the process import as if it had never been out of others' way, where we may."""
        # The process looks for this after it has gone out of the way: then nothing keeps it there.
        with contextlib.suppress(OSError):  # it has ended: what is asked next says so
            self._server.send({"hurry": True}, ())  # pauses end when something is to be read
        policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
        with contextlib.suppress(OSError):  # it has ended, or the user may not
            os.sched_setscheduler(self._server.pid, policy, parameter)

    @contextlib.contextmanager
    def forking(self, count: int, numbers: Collection[int]) -> Iterator[None]:
        """Fork workers together that ``fork`` begins meanwhile, besides those that wait already.

        Each fork copies the tables of the whole memory, and so does the process between the server
        and a worker that makes the agent the worker's parent: here there is one for all of them.

        Args:
            count: How many there are to be.
            numbers: The descriptors that they will be given.
        """
        if (missing := count - self.waiting.ready_count) > 1 and self._is_usable:
            with contextlib.suppress(OSError):  # then ``fork`` tries each by itself
                self._ahead = self._fork_group(missing, numbers)
        try:
            yield
        finally:
            ahead, self._ahead = self._ahead, []
            self.waiting.discard(*ahead)

    def fork(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        fds: Mapping[int, int],
        cpus: Collection[int] = (),
    ) -> WorkerProcess:
        """Fork a worker.

        Args:
            command: What it runs: the program, with arguments of its own.
            environment: Its whole environment.
            fds: Its descriptors, by the number that they have there.
            cpus: CPUs that it is bound to; none: those of the preloading process.

        Raises:
            OSError: It is not possible now.
        """
        order = {
            "command": list(command),
            "args": list(command[len(self.program) :]),
            "environment": dict(environment),
            "mark": mapping_name(environment[MARK_VARIABLE].rpartition(":")[2]),
            "fds": list(fds),
        }
        begun = self._begin_waiting(order, fds, cpus)
        if begun is None and not self._is_usable:
            raise BlockingIOError(0, "none waits, and modules are being imported")
        return begun or self._begin_forked(order, fds, cpus)

    def _begin_waiting(
        self, order: Mapping[str, Any], fds: Mapping[int, int], cpus: Collection[int]
    ) -> WorkerProcess | None:
        """Let one go on that waits already; None: there is none."""
        while (waiting := self.waiting.take(fds)) is not None:
            with contextlib.suppress(OSError):  # it was killed
                return waiting.begin(order, fds.values(), cpus)
            log.info("the worker with pid %d has not waited", waiting.process.pid)
            self.waiting.discard(waiting)
        return None

    def _begin_forked(
        self, order: Mapping[str, Any], fds: Mapping[int, int], cpus: Collection[int]
    ) -> WorkerProcess:
        forked = self._ahead.pop(0) if self._ahead else self._fork(fds)
        try:
            return forked.begin(order, fds.values(), cpus)
        except (BrokenPipeError, ConnectionResetError):  # it was killed: its exit code will tell
            forked.let_go_of_line()
            return forked.process
        except OSError:
            self.waiting.discard(forked)
            raise

    def fork_store_host(self, program: str, channel_fd: int, *, use_libuv: bool) -> WorkerProcess:
        """Fork a process that serves the workers' store with the torch that is imported there.

        Args:
            program: The file with ``serve``.
            use_libuv: Whether torch's server is its newer one.

        Raises:
            OSError: It is not possible now.
        """
        store = {"program": program, "use_libuv": use_libuv}
        forked = self._fork((), [channel_fd], store=store)
        forked.let_go_of_line()
        return forked.process

    def _fork(
        self, numbers: Collection[int], fds: Collection[int] = (), **more: Any
    ) -> ForkedProcess:
        """Fork a process, and greet it; see ``request``."""
        (forked,) = self._fork_group(1, numbers, fds, **more)
        return forked

    def _fork_group(
        self, count: int, numbers: Collection[int], fds: Collection[int] = (), **more: Any
    ) -> list[ForkedProcess]:
        """Fork processes, and greet them; at least one, or all that there can be."""
        self.waiting.settle()
        group: list[ForkedProcess] = []
        try:
            while len(group) < count:
                group.append(ForkedProcess())
            self.request(group, numbers, fds, **more)
            return self.greet(group)
        except BaseException:
            self.waiting.discard(*group)
            raise

    def request(
        self,
        group: Sequence[ForkedProcess],
        numbers: Collection[int],
        fds: Collection[int] = (),
        *,
        waits: bool = False,
        store: Mapping[str, Any] | None = None,
    ) -> None:
        """Ask for processes to be forked; ``greet`` follows, before others are asked for.

        Args:
            numbers: The descriptors that they will be given.
            fds: Descriptors that they are given now.
            waits: Whether they say when they wait for what they are to run.
            store: What they serve a store with; None: they become workers.

        Raises:
            OSError: It is not possible now.
        """
        with self._given_up_where_it_fails():
            self._server.ask_for(group, numbers, fds, waits=waits, store=store)

    def answer_fds(self) -> list[int]:
        """Return what becomes readable when ``has_answered`` has changed."""
        return self._server.filenos()

    def has_answered(self) -> bool:
        """Return whether ``greet`` would not wait."""
        return self._server.has_answered()

    def greet(self, group: Sequence[ForkedProcess]) -> list[ForkedProcess]:
        """Wait until processes that were asked for are there, let them go on, and return them.

        Raises:
            OSError: It is not possible now; those that are there end.
        """
        with self._given_up_where_it_fails():
            answer = self._server.read_answer()
        return greet_group(group, answer)

    @contextlib.contextmanager
    def _given_up_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.give_up(f"the preloading process {self._server.describe_end()}")
            raise

    def give_up(self, reason: str) -> None:
        """Say why workers are executed from now on."""
        self._is_usable = False
        self.waiting.close()
        _warn(self.modules, reason)

    def close(self) -> None:
        """End the process, and the workers that wait; those that have begun stay."""
        self.waiting.close()
        patience_s = _FINALIZE_S if self._is_usable else 0.0
        self._is_loading = self._is_usable = False
        self._server.close(patience_s)
        if self.payload_slot is not None:
            self.payload_slot.close()


def begin_preloading(
    modules: Sequence[str],
    entrypoint: Callable[..., Any] | str,
    args: Sequence[Any],
    start_method: str,
    environment: Mapping[str, str],
    guardian: Guardian,
    start_wait: StartWait | None = None,
) -> Preloading | None:
    """Start a preloading process for workers to come, or warn that there can be none.

    Args:
        entrypoint: A program, or a function.
        args: Arguments of one of the workers.
        start_method: How functions get into new processes.
        start_wait: How it is waited for that the command is loaded.
    """
    slot = None
    try:
        if isinstance(entrypoint, str):
            command = [entrypoint, *map(str, args)]
        else:
            if start_method != "spawn":
                raise ValueError(f"start_method={start_method!r} has a way of its own")
            from ..processes.spawner import command_for  # few jobs run functions

            slot = Slot()
            command = command_for(slot.number)
        return Preloading(modules, command, environment, guardian, slot, start_wait)
    except (ValueError, StartFailed, OSError) as error:
        if slot is not None:
            slot.close()
        _warn(modules, str(error))
        return None


def _warn(modules: Sequence[str], reason: str) -> None:
    """Say why workers start without modules that have been imported."""
    names = ", ".join(modules) or AUTO
    log.warning("preloading %s: %s; workers start without", names, reason)


def _with_fork_server(
    modules: Sequence[str], environment: Mapping[str, str], channel: int
) -> dict[str, str]:
    settings = json.dumps({"modules": list(modules), "socket": channel})
    return {**with_hook(environment), _PRELOAD_VARIABLE: f"{_PROGRAM}\n{settings}"}
