"""The preload server as the agent's loop meets it: begun with the agent, ready when it is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..processes.companion import Companion, Wakes
from ..processes.executor import Executor, StartWait
from ..processes.guardian import Guardian
from ..system.environ import inherited_environment
from ..workers.environment import shared_environment
from ..workers.worker import WorkerSpec
from .preload import PreloadedExecutor, Preloading, begin_preloading


class PreloadServer(Companion):
    """What an agent forks its workers from.

    Args:
        preloading: The process that has imported the modules, or will have.
    """

    def __init__(self, preloading: Preloading) -> None:
        self.preloading = preloading
        self._is_settled = False

    @property
    def is_settled(self) -> bool:
        """Whether the modules are imported, or won't be, as of the last tick."""
        return self._is_settled

    def executor(self) -> Executor:
        """Return what forks workers as far as possible, and executes the others."""
        return PreloadedExecutor(self.preloading)

    def wakes(self) -> Wakes:
        """Return what becomes readable, and until when, while modules are imported."""
        if self._is_settled:
            return Wakes()
        return Wakes(self.preloading.filenos(), self.preloading.patience_left_s())

    def tick(self) -> None:
        """Look whether the modules are imported."""
        self._is_settled = self.preloading.is_settled()

    def end(self) -> None:
        """End the process; workers that were forked stay."""
        self.preloading.close()


def begin_preload_server(
    modules: Sequence[str],
    spec: WorkerSpec,
    start_method: str,
    environ: Mapping[str, str],
    more: Mapping[str, str],
    guardian: Guardian,
    start_wait: StartWait,
) -> PreloadServer | None:
    """Start a preload server for the workers to come; where there can be none, warn.

    Args:
        modules: What it imports.
        spec: What the workers run.
        start_method: How functions get into new processes.
        environ: The agent's environment.
        more: What companions add to the workers' environment.
        guardian: The agent's guardian.
        start_wait: How the agent waits until the server's program is loaded.
    """
    if spec.entrypoint is None:
        return None
    environment = {
        **inherited_environment(),
        **shared_environment(spec.local_world_size, environ),
        **more,
    }
    preloading = begin_preloading(
        modules,
        spec.entrypoint,
        spec.args_of(0),
        start_method,
        environment,
        guardian,
        start_wait,
    )
    return None if preloading is None else PreloadServer(preloading)
