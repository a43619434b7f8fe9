"""Workers that are commands: programs executed with arguments."""

from __future__ import annotations

from ..workers.environment import hooked_environment
from .context import PContext
from .executor import Executor, Order, StartWait
from .process import WorkerProcess, WorkerSetup
from .results import StartFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any


class SubprocessContext(PContext):
    """Workers that execute a program. It is started by ``start_processes``.

    Args:
        *args: See ``PContext``.
        executor: What starts the program.
        **options: See ``PContext``.
    """

    def __init__(self, *args: Any, executor: Executor | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._executor = executor or Executor()

    def _launch(self, starts: Sequence[WorkerSetup]) -> Iterable[WorkerProcess | StartFailed]:
        orders = [self._order(start) for start in starts]
        are_last = starts[-1].local_rank == self.nprocs - 1
        return self._executor.execute_all(orders, are_last=are_last)

    def _order(self, start: WorkerSetup) -> Order:
        local_rank = start.local_rank
        command = [str(self.entrypoint), *map(str, self.args[local_rank])]
        environment = hooked_environment(start.environment, command, self.error_file(local_rank))
        cpus = self._cpus.get(local_rank, ())
        return Order(command, environment, start.stdout, start.stderr, cpus=cpus)

    def _finish_start(self, start_wait: StartWait) -> Mapping[int, StartFailed]:
        return self._executor.settle(start_wait)

    def _kill_unloaded(self) -> None:
        self._executor.kill_unloaded()

    def _clean_up(self) -> None:
        self._executor.close()
