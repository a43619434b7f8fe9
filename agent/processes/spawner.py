"""Runs a function of ``multiprocessing``'s in a fresh interpreter that elrun itself executes.

``multiprocessing`` can spawn by itself, but leaves no say in the new interpreter's environment,
session and output before the first line of the user's modules has run. Here it does what it does
best, pickling and unpickling, and elrun executes the interpreter like any other command.

An interpreter reads its payload bit by bit, between imports that may take long or never end. The
agent does not wait for that: what a pipe does not take at once, a thread sends.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from multiprocessing import context, reduction, resource_tracker, spawn
from multiprocessing.process import BaseProcess
from types import FunctionType
from typing import Any, cast

from ...rendezvous.threads import start_daemon
from ..system.wakeup import Wakeup
from ..workers.environment import hooked_environment
from .executor import Executor, StartWait
from .function_main import InheritedDescriptor
from .importable import MAIN, is_main_imported, main_file
from .process import WorkerProcess
from .results import StartFailed


@dataclass(frozen=True, slots=True)
class Payload:
    """A process to be, pickled.

    Args:
        data: What the new interpreter reads.
        fds: The descriptors that it has to inherit.
    """

    data: bytes
    fds: tuple[int, ...]


def describe_this_process(name: str) -> dict[str, Any]:
    """Return what makes a new interpreter resemble this one: its path, its main module.

    Args:
        name: What the new process is called.

    Raises:
        RuntimeError: This process is itself being spawned, and imports the user's main module,
            which lacks its ``if __name__ == "__main__":``.
        ValueError: The directory that it works in has been deleted.
    """
    try:
        preparation = spawn.get_preparation_data(name)
    except FileNotFoundError:
        raise ValueError(
            "the working directory has been deleted, and functions start in it; change to another"
        ) from None
    if main_file() is None:  # a program that was read from standard input has a name, and no file
        preparation.pop("init_main_from_path", None)
    return preparation


def pack(process: BaseProcess, preparation: dict[str, Any]) -> Payload:
    """Pickle a process object of the ``spawn`` context that was not started.

    Args:
        preparation: What ``describe_this_process`` returned.

    Raises:
        Exception: Whatever pickling the user's function and arguments raises.
    """
    collector = _FdCollector()
    buffer = io.BytesIO()
    context.set_spawning_popen(cast("Any", collector))
    try:
        reduction.dump(preparation, buffer)
        kind = reduction.ForkingPickler if is_main_imported() else _PicklerWithoutMain
        kind(buffer).dump(process)
    finally:
        context.set_spawning_popen(None)
    return Payload(buffer.getvalue(), tuple(collector.fds))


def command_for(payload: int) -> list[str]:
    """Return the command of an interpreter that runs a function.

    Args:
        payload: Descriptor from which it reads what to run.
    """
    tracker = cast("int", resource_tracker.getfd())
    command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=payload)
    return [os.fsdecode(word) for word in command]


class Spawner:
    """Executes interpreters, then sends each its payload."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._unsent: dict[int, memoryview] = {}
        self._pipes: list[int] = []
        self._stop = Wakeup()
        self._thread: threading.Thread | None = None

    def execute(
        self,
        payload: Payload,
        environment: dict[str, str],
        stdout: int | None,
        stderr: int | None,
        cpus: Collection[int] = (),
        error_file: str = "",
    ) -> WorkerProcess:
        """Execute an interpreter that waits for its payload; see ``Executor.execute``.

        Args:
            environment: Its whole environment.
            stdout: What its standard output becomes; None: our own.
            stderr: What its standard error becomes; None: our own.
            cpus: CPUs that it is bound to; none: those of this process.
            error_file: Where it leaves what ends it; "" is nowhere.

        Raises:
            StartFailed: The interpreter can't be executed.
        """
        tracker = cast("int", resource_tracker.getfd())
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(write_end, False)
        self._pipes.append(write_end)
        self._unsent[write_end] = memoryview(payload.data)
        slot = self._executor.payload_slot
        place = slot.hold(read_end) if slot else contextlib.nullcontext(read_end)
        try:
            with place as number:
                command = command_for(number)
                return self._executor.execute(
                    command,
                    hooked_environment(environment, command, error_file),
                    stdout,
                    stderr,
                    {number, tracker, *payload.fds},
                    cpus,
                )
        finally:
            os.close(read_end)

    def send(self, start_wait: StartWait | None = None) -> dict[int, StartFailed]:
        """Send the payloads, or let them be sent by a thread as the interpreters read.

        Args:
            start_wait: How it is waited for that the interpreters are loaded.

        Returns:
            Why interpreters could not be executed, by process id.

        Raises:
            NoThreadError: There can be no more threads.
        """
        self._send_to(list(self._unsent))
        if self._unsent:
            self._thread = start_daemon(self._send_all, "elrun-payloads")
        return self._executor.settle(start_wait)

    def kill_unloaded(self) -> None:
        """Kill the children that have not become interpreters."""
        self._executor.kill_unloaded()

    def close(self) -> None:
        """Close the pipes, by whose end a worker could tell that we have died."""
        self._executor.close()
        self._stop.notify()
        if self._thread is not None:
            self._thread.join()
        self._stop.close()
        while self._pipes:
            os.close(self._pipes.pop())

    def _send_all(self) -> None:
        waiting = select.poll()
        waiting.register(self._stop.fileno(), select.POLLIN)
        for pipe in self._unsent:
            waiting.register(pipe, select.POLLOUT)
        while self._unsent:
            ready = [fd for fd, _ in waiting.poll()]
            if self._stop.fileno() in ready:
                return
            for pipe in self._send_to(ready):
                waiting.unregister(pipe)

    def _send_to(self, pipes: Iterable[int]) -> list[int]:
        """Send what the pipes take now; return those that need no more."""
        done = []
        for pipe in pipes:
            try:
                while rest := self._unsent[pipe]:
                    self._unsent[pipe] = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:  # it died early: its exit code will tell
                pass
            del self._unsent[pipe]
            done.append(pipe)
        return done


class _PicklerWithoutMain(reduction.ForkingPickler):
    """Refuses what the new process would look for in the main module, where it runs no such one."""

    def reducer_override(self, obj: Any) -> Any:
        """Raise for a class or a function of the main module; leave all else as it is."""
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == MAIN:
            raise TypeError(f"{obj.__qualname__} is defined in {MAIN}, which has no file")
        return NotImplemented


class _FdCollector:
    """Collects the descriptors that pickled objects ask ``multiprocessing`` to bring along."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return fd

    def DupFd(self, fd: int) -> Any:
        return InheritedDescriptor(fd)
