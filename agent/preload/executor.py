"""Starts an attempt's workers: it forks those that can be forked, and executes the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from ...rendezvous.logs import Log
from ..processes.executor import Executor, script_from_its_beginning
from ..processes.process import WorkerProcess
from ..workers.environment import is_hooked
from .lessons import LEARN_VARIABLE
from .preload import Preloading

log = Log(__name__)


class PreloadedExecutor(Executor):
    """Forks what can be forked, and executes everything else.

    Args:
        preloading: Where workers are forked from; None: nowhere, yet.
        lessons_for: Returns, for a worker's environment, what lets it report its imports; None:
            nothing is to be learnt.
    """

    def __init__(
        self,
        preloading: Preloading | None,
        lessons_for: Callable[[Mapping[str, str]], str] | None = None,
    ) -> None:
        super().__init__()
        self.payload_slot = None if preloading is None else preloading.payload_slot
        self._preloading = preloading
        self._lessons_for = lessons_for

    def execute(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdout: int | None,
        stderr: int | None,
        inherited_fds: Collection[int] = (),
        cpus: Collection[int] = (),
    ) -> WorkerProcess:
        """Start a worker; see ``Executor.execute``."""
        if self._lessons_for is not None and is_hooked(environment):
            environment = {**environment, LEARN_VARIABLE: self._lessons_for(environment)}
        preloading = self._preloading
        if (
            preloading is not None
            and preloading.can_start_workers
            and _is_forkable(preloading, command, environment)
        ):
            streams = {0: 0, 1: 1 if stdout is None else stdout, 2: 2 if stderr is None else stderr}
            fds = {number: fd for number, fd in streams.items() if _is_open(fd)}
            try:
                fds |= {fd: fd for fd in inherited_fds}
                with script_from_its_beginning() as script:
                    return preloading.fork(command, environment, fds | script, cpus)
            except OSError as error:
                log.info("a worker is executed, not forked: %s", error)
        return super().execute(command, environment, stdout, stderr, inherited_fds, cpus)


def _is_forkable(
    preloading: Preloading, command: Sequence[str], environment: Mapping[str, str]
) -> bool:
    if tuple(command[: len(preloading.program)]) != preloading.program:
        preloading.give_up(f"{' '.join(command)} is another program than was preloaded")
        return False
    # Execution knows best how to refuse what no process can be given.
    return not any("\0" in text for text in (*command, *environment, *environment.values()))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
