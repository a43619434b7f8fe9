"""Makes folders for log files where a file system that hangs can't make the agent deaf."""

from __future__ import annotations

import os
import time

from ...rendezvous.threads import Call
from ..failures.failure import ERROR_FILE_VARIABLE
from ..system.wakeup import Wakeup
from .directories import PATIENCE_S, remove_needless, tell_of_a_hang
from .specs import DefaultLogsSpecs, LogsDest, LogsSpecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOMENT_S = 0.02
"""How long the caller waits for nothing else: most often the folders are made by then."""

_LEAVE_S = 1.0
"""How long folders that are being made may hold up what ends the job."""

_COUNTS = ("TORCHELASTIC_RESTART_COUNT", "ELRUN_TOTAL_RESTARTS")
_OF_NAMES = ("TORCHELASTIC_RUN_ID", *_COUNTS)
"""What folders are called by."""


class MadeFolders(LogsSpecs):
    """Returns the folders that ``AttemptFolders`` has made, and makes none."""

    def __init__(self, dest: LogsDest) -> None:
        super().__init__()
        self._dest = dest

    @property
    def root_log_dir(self) -> str:
        """Not known here."""
        return ""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return where everything goes."""
        return self._dest


class _Making:
    """Folders of one attempt that a thread makes.

    Args:
        envs: Each worker's environment by local rank; it takes the path of its error file.
    """

    def __init__(self, specs: LogsSpecs, envs: dict[int, dict[str, str]], wake: Wakeup) -> None:
        self.envs = envs
        self._specs = specs
        self._call = Call(lambda: specs.reify(envs), "elrun-folders", wake.notify, or_here=True)

    def finish(self, wait: Callable[[float | None], None]) -> MadeFolders:
        """Wait until they are made; see ``AttemptFolders.make``."""
        call = self._call
        deadline = time.monotonic() + PATIENCE_S
        has_told = False
        try:
            call.wait(_MOMENT_S)
            while not call.is_done:
                wait(None if has_told else PATIENCE_S)
                if not has_told and time.monotonic() >= deadline and not call.is_done:
                    tell_of_a_hang(self._specs.root_log_dir)
                    has_told = True
        except BaseException:  # a stop, too: the thread would make folders that nobody uses
            self.leave()
            raise
        return MadeFolders(call.result())

    def leave(self) -> None:
        """Remove them, once they are made, and wait for a moment: none may be made after that."""
        if self._call.wait(_LEAVE_S):
            files = [env.get(ERROR_FILE_VARIABLE, "") for env in self.envs.values()]
            for attempt_dir in {os.path.dirname(os.path.dirname(each)) for each in files if each}:
                remove_needless(attempt_dir)


class AttemptFolders:
    """Makes the folders of one attempt after the other, each time in a thread.

    Args:
        specs: Knows which.
        wake: Notified when they are made.
    """

    def __init__(self, specs: LogsSpecs, wake: Wakeup) -> None:
        self._specs = specs
        self._wake = wake
        self._early: _Making | None = None

    @property
    def are_apart(self) -> bool:
        """Whether each attempt has files of its own; those of a plug-in may be the same ones."""
        return type(self._specs) is DefaultLogsSpecs

    def begin(self, envs: Mapping[int, Mapping[str, str]]) -> None:
        """Begin to make those of a restart that is certain, while its predecessors still end.

        Args:
            envs: The environments of the attempt before, by local rank.
        """
        if self.are_apart and self._early is None:
            named = {rank: _names_after(env) for rank, env in envs.items()}
            self._early = _Making(self._specs, named, self._wake)

    def make(
        self, envs: dict[int, dict[str, str]], wait: Callable[[float | None], None]
    ) -> MadeFolders:
        """Have the folders of one attempt made, and wait for them.

        Args:
            envs: Each worker's environment by local rank; it takes the path of its error file.
            wait: Waits for that, so many seconds at most; raises what ends the job.

        Raises:
            ValueError: There can be none where the user wants them.
        """
        early, self._early = self._early, None
        if early is not None:
            folders = early.finish(wait)
            if _are_named_alike(early.envs, envs):
                for rank, env in envs.items():
                    env[ERROR_FILE_VARIABLE] = early.envs[rank][ERROR_FILE_VARIABLE]
                return folders
            early.leave()
        return _Making(self._specs, envs, self._wake).finish(wait)

    def leave(self) -> None:
        """Remove those of an attempt that does not come, and wait a little until they are made."""
        if self._early is not None:
            self._early.leave()


def _names_after(env: Mapping[str, str]) -> dict[str, str]:
    """Return what the folders of the next attempt are called by."""
    return {name: str(int(env[name]) + 1) if name in _COUNTS else env[name] for name in _OF_NAMES}


def _are_named_alike(
    early: Mapping[int, Mapping[str, str]], envs: Mapping[int, Mapping[str, str]]
) -> bool:
    return early.keys() == envs.keys() and all(
        early[rank][name] == env.get(name) for rank, env in envs.items() for name in _OF_NAMES
    )
