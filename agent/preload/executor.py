"""Starts an attempt's workers: it forks those that can be forked, and executes the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...rendezvous.logs import Log
from ..processes.executor import Executor, Order, script_from_its_beginning
from ..processes.process import WorkerProcess
from ..processes.results import StartFailed
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

    def execute_all(
        self, orders: Sequence[Order], *, are_last: bool = False
    ) -> Iterator[WorkerProcess | StartFailed]:
        """Start workers; see ``Executor.execute_all``."""
        with self._forking(orders):
            for left, order in enumerate(map(self._with_lessons, orders), start=1 - len(orders)):
                forked = self._fork_from_server(order)
                if forked is None:
                    yield from super().execute_all([order], are_last=are_last and not left)
                else:
                    yield forked

    def _forking(self, orders: Sequence[Order]) -> contextlib.AbstractContextManager[None]:
        preloading = self._preloading
        if preloading is None:
            return contextlib.nullcontext()
        numbers = {fd for each in orders for fd in each.inherited_fds}
        return preloading.forking(len(orders), numbers)

    def _with_lessons(self, order: Order) -> Order:
        environment = order.environment
        if self._lessons_for is None or not is_hooked(environment):
            return order
        lessons = {LEARN_VARIABLE: self._lessons_for(environment)}
        return order._replace(environment={**environment, **lessons})

    def _fork_from_server(self, order: Order) -> WorkerProcess | None:
        command, environment, stdout, stderr, inherited_fds, cpus = order
        preloading = self._preloading
        if (
            preloading is None
            or not preloading.can_start_workers
            or not _is_forkable(preloading, command, environment)
        ):
            return None
        streams = {0: 0, 1: 1 if stdout is None else stdout, 2: 2 if stderr is None else stderr}
        fds = {number: fd for number, fd in streams.items() if _is_open(fd)}
        try:
            fds |= {fd: fd for fd in inherited_fds}
            with script_from_its_beginning() as script:
                return preloading.fork(command, environment, fds | script, cpus)
        except OSError as error:
            log.info("a worker is executed, not forked: %s", error)
            return None


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
