"""Makes folders for log files where a file system that hangs can't make the agent deaf."""

from __future__ import annotations

import time

from ...rendezvous.threads import Call
from ..system.wakeup import Wakeup
from .directories import PATIENCE_S, tell_of_a_hang
from .specs import LogsDest, LogsSpecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOMENT_S = 0.02
"""How long the caller waits for nothing else: most often the folders are made by then."""

_LEAVE_S = 1.0
"""How long folders that are being made may hold up what ends the job."""


class MadeFolders(LogsSpecs):
    """Returns the folders that ``make_folders`` has made, and makes none."""

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


def make_folders(
    specs: LogsSpecs,
    envs: dict[int, dict[str, str]],
    wake: Wakeup,
    wait: Callable[[float | None], None],
) -> MadeFolders:
    """Have the folders of one attempt made in a thread, and wait for them.

    Args:
        specs: Knows which.
        envs: Each worker's environment by local rank; it takes the path of its error file.
        wake: Notified when they are made.
        wait: Waits for that, so many seconds at most; raises what ends the job.

    Raises:
        ValueError: There can be none where the user wants them.
    """
    call = Call(lambda: specs.reify(envs), "elrun-folders", wake.notify, or_here=True)
    patience_s: float | None = PATIENCE_S
    deadline = time.monotonic() + PATIENCE_S
    try:
        call.wait(_MOMENT_S)
        while not call.is_done:
            wait(patience_s)
            if patience_s is not None and time.monotonic() >= deadline and not call.is_done:
                tell_of_a_hang(specs.root_log_dir)
                patience_s = None
    except BaseException:
        call.wait(_LEAVE_S)  # the job's end removes folders: none may be made after that
        raise
    return MadeFolders(call.result())
