"""Serves the store that an attempt's workers meet in, by a process that outlives rank 0.

If rank 0 served the store, as torch's workers do by default, all other ranks would lose the store
when rank 0 ends first. So the agent of rank 0's node listens at the store's port before a worker
starts, and starts a small process that serves the connections: not even the first is refused.

That process costs a third of a second of CPU and 130 MB, which a job without torch must not pay.
So the agent starts the process when a worker connects, or earlier, when a worker of this node has
loaded torch. With ``--preload torch`` the process is forked, and a second one in reserve for the
next attempt.
"""

from __future__ import annotations

import sys
import time

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..processes.companion import Companion, Trouble, Wakes
from ..processes.context import PContext
from ..processes.guardian import Guardian
from ..system.pidfd import wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Collection, Mapping

    from ..preload.preload import Preloading
    from .host_process import StoreProcess, Way

log = Log(__name__)

DISABLE_VARIABLE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"

_LOOKS_S = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""When workers are looked at, in seconds since their start: whether they have loaded torch."""

_RESERVE_S = 1.0
"""After how many seconds of an attempt it is time to prepare for the next one."""

_KILL_WAIT_S = 10.0


class Means(NamedTuple):
    """What a process that serves a store is started with.

    Args:
        environ: The agent's environment, as far as the user has set it.
        preloading: What workers are forked from, if they are.
    """

    torch_folder: str
    environ: Mapping[str, str]
    guardian: Guardian
    preloading: Preloading | None

    @property
    def can_fork(self) -> bool:
        """Whether there is a process with torch to fork from."""
        preloading = self.preloading
        return preloading is not None and preloading.is_usable and preloading.has_torch


class StoreHost(Companion):
    """Serves the workers' store, attempt after attempt, where it is this node's to serve.

    Args:
        environ: The agent's environment. torch's variable that keeps workers from sharing a store
            with agents is honoured: then rank 0 serves it.
        fixed_port: The port that the user chose for the workers' store; None: the rendezvous' own.
        preloading: Returns what workers are forked from, if they are.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        fixed_port: int | None,
        rounds: RoundHandler,
        guardian: Guardian,
        preloading: Callable[[], Preloading | None] = lambda: None,
    ) -> None:
        self._environ = environ
        self._fixed_port = fixed_port
        self._rounds = rounds
        self._guardian = guardian
        self._preloading = preloading
        self._attempt: _Attempt | None = None
        self._is_attempt_over = False
        self._is_last = False
        self._reserve: StoreProcess | None = None
        self._reserve_at: float | None = None
        self._has_forked = False
        self._ended: list[StoreProcess] = []
        self._torch_folder: str | None = None

    @property
    def is_needed_by_others(self) -> bool:
        """Whether workers may meet in a store that is lost when this agent leaves."""
        return self._attempt is not None and self._attempt.process is not None

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Listen where the workers of a new attempt meet, if that is on this node.

        Args:
            info: The attempt's round; None: there is none that the rendezvous knows.
            is_last: Whether no restart is left.

        Raises:
            RendezvousError: The port is in use.
        """
        self._end_attempt()
        self._is_attempt_over, self._is_last = False, is_last
        meeting = None if info is None else info.bootstrap_store_info
        is_elsewhere = meeting is None or self._fixed_port not in (None, meeting.master_port)
        if is_elsewhere or self._environ.get(DISABLE_VARIABLE) == "1":
            return
        if self._torch_folder is None:  # it may come later, as on a file system that was slow
            self._torch_folder = _find_torch()
        torch_folder = self._torch_folder
        listener = None if torch_folder is None else self._rounds.workers_listener()
        if torch_folder is not None and listener is not None:
            means = Means(torch_folder, self._environ, self._guardian, self._preloading())
            reserve, self._reserve = self._reserve, None
            self._attempt = _Attempt(listener, means, reserve)
            self._fork_early(self._attempt)

    def begin_attempt(self, workers: PContext) -> None:
        """Take note of the attempt's workers, which have just been started."""
        attempt = self._attempt
        self._has_forked = True
        if attempt is None:
            return
        attempt.watch_workers(workers.pids().values())
        if attempt.means.can_fork and not self._is_last and self._reserve is None:
            self._reserve_at = time.monotonic() + _RESERVE_S

    def wakes(self) -> Wakes:
        """Return what becomes readable, and when to look, when there is something to do."""
        attempt = self._attempt
        if attempt is None or self._is_attempt_over:
            return Wakes()
        moments = [at for at in (attempt.next_look_at, self._reserve_at) if at is not None]
        within_s = max(0.0, min(moments) - time.monotonic()) if moments else None
        return Wakes(attempt.filenos(), within_s)

    def tick(self) -> Trouble | None:
        """Start what serves the store if it is time; return, once, why it is lost."""
        attempt = self._attempt
        if attempt is None or self._is_attempt_over:
            return None
        self._fork_early(attempt)
        if self._reserve_at is not None and time.monotonic() >= self._reserve_at:
            self._reserve_at = None
            self._reserve = _fork(attempt.means)
        loss = attempt.look()
        if not loss:
            return None
        self._end_attempt()
        return Trouble(loss)

    def end_attempt(self) -> None:
        """End the store where the next one listens at the same port.

        Elsewhere it stays until all nodes meet again: other nodes' workers may still be stopping.
        """
        self._is_attempt_over = True
        if self._fixed_port is not None:
            self._end_attempt()
            self._await_ends()

    def _fork_early(self, attempt: _Attempt) -> None:
        """Fork, before the first workers of all, the processes of this attempt and the next.

        A fork takes 15 ms, for which workers of a restart would wait. Later it is done meanwhile.
        """
        if self._has_forked or not attempt.means.can_fork:
            return
        self._has_forked = True
        if attempt.process is None:
            attempt.start()
        if not self._is_last:
            self._reserve = _fork(attempt.means)

    def end(self) -> None:
        """Serve no more, and leave no process behind."""
        self._end_attempt()
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve.kill()
            self._ended.append(reserve)
        self._await_ends()

    def _end_attempt(self) -> None:
        attempt, self._attempt, self._reserve_at = self._attempt, None, None
        if attempt is not None:
            self._ended += attempt.end()

    def _await_ends(self) -> None:
        ended, self._ended = self._ended, []
        deadline = time.monotonic() + _KILL_WAIT_S
        for process in ended:
            process.await_end(deadline)


class _Attempt:
    """The store of one attempt, on the node that serves it.

    Args:
        means: What to start a process with that serves it.
        process: A process that has been started already.
    """

    def __init__(self, listener: socket, means: Means, process: StoreProcess | None) -> None:
        # Held until the store is served: what has connected by then waits there.
        self._listener: socket | None = listener
        self._pids: Collection[int] = ()
        self._looks: list[float] = []  # the next one is the last
        self._ways_left: list[Way] | None = None
        self._ended: list[StoreProcess] = []
        self.means = means
        self.process = process
        if process is not None:
            process.serve(listener)

    def watch_workers(self, pids: Collection[int]) -> None:
        now = time.monotonic()
        self._pids = pids
        self._looks = [now + after_s for after_s in reversed(_LOOKS_S)]
        if self.process is None and self.means.can_fork:
            self.start()

    def filenos(self) -> list[int]:
        if self.process is not None:
            return self.process.filenos()
        return [] if self._listener is None else [self._listener.fileno()]

    @property
    def next_look_at(self) -> float | None:
        return self._looks[-1] if self._looks and self.process is None else None

    def look(self) -> str:
        process = self.process
        if process is None:
            return self.start() if self._is_wanted() else ""
        has_ended = process.look()
        if process.is_ready:
            self._close_listener()
        if not has_ended:
            return ""
        self._end_process()
        end = f"the process that serves the workers' store (pid {process.pid})"
        end = f"{end} {process.describe_end()}"
        if process.is_ready:
            return end
        log.info("%s", end)
        return self.start(end)

    def end(self) -> list[StoreProcess]:
        self._end_process()
        self._close_listener()
        return self._ended

    def _is_wanted(self) -> bool:
        if self._listener is None:
            return False
        if not wait_readable([self._listener.fileno()], deadline=0.0)[0]:
            return True
        now, is_due = time.monotonic(), False
        while self._looks and self._looks[-1] <= now:
            self._looks.pop()
            is_due = True
        return is_due and any(has_loaded_torch(pid) for pid in self._pids)

    def start(self, reason: str = "") -> str:
        """Start a process in the next way; return why the store is lost if there is none left."""
        from ..processes.results import StartFailed  # jobs without torch do without
        from .host_process import StoreProcess, Way

        if self._ways_left is None:
            self._ways_left = [way for way in Way if way is not Way.FORKED or self.means.can_fork]
        while self._ways_left and self._listener is not None:
            way = self._ways_left.pop(0)
            try:
                self.process = StoreProcess(way, self.means)
            except (OSError, StartFailed) as error:
                reason = f"no process for the workers' store can be {way.value} ({error})"
                log.info("%s", reason)
                continue
            self.process.serve(self._listener)
            return ""
        return f"{reason}; {DISABLE_VARIABLE}=1 leaves the workers' store to rank 0"

    def _end_process(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            self._ended.append(process)

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def has_loaded_torch(pid: int) -> bool:
    """Return whether a process has loaded torch's libraries; False where we may not know."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return b"/libtorch" in file.read()
    except OSError:  # it has ended, or is another user's
        return False


def _fork(means: Means) -> StoreProcess | None:
    from ..processes.results import StartFailed  # few jobs
    from .host_process import StoreProcess, Way

    try:
        return StoreProcess(Way.FORKED, means)
    except (OSError, StartFailed) as error:
        log.info("no process for the next attempt's store can be forked: %s", error)
        return None


def _find_torch() -> str | None:
    """Return where torch is installed, without importing anything."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)  # one of the old kind has none
        spec = None if find is None else find("torch", None)
        if spec is not None:
            return next(iter(spec.submodule_search_locations or ()), None)
    return None
