"""What an agent's companions may know of it, and what is wanted beside starting its workers."""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple
from ..failures.failure import is_told_to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from signal import Signals

    from ...rendezvous.api.handler import RoundHandler
    from ..failures.stack_places import Whereabouts
    from ..output.run_folders import RunFolder
    from ..processes.context import PContext
    from ..processes.guardian import Guardian
    from ..system.signals import SignalInbox
    from ..timers.file_client import FileTimerRequest
    from ..workers.worker import WorkerGroup
    from .restarts import Restarts
    from .waiting import LoopWait


class FolderOfRun:
    """The folder of an agent's run, made once something is put there.

    Args:
        run_id: Returns the run's name.
    """

    def __init__(self, environ: Mapping[str, str], run_id: Callable[[], str]) -> None:
        self._environ = environ
        self._run_id = run_id
        self._is_known = False
        self._folder: RunFolder | None = None
        self.is_kept = False
        """Whether somebody else than the agent lets go of it."""

    def get(self) -> RunFolder | None:
        """Return the folder, made by then; None: the user wants none."""
        if not self._is_known:
            from ..output import run_folders  # not at start

            self._is_known = True
            if run_folders.wants_folder(self._environ):
                self._folder = run_folders.RunFolder(
                    lambda: run_folders.folder_of_runs(self._environ),
                    self._run_id(),
                    is_named=bool(self._environ.get(run_folders.FOLDER_VARIABLE)),
                )
        return self._folder

    def keep(self) -> RunFolder | None:
        """Return the folder to one who keeps something there and lets go of it after the run."""
        self.is_kept = True
        return self.get()

    def discard(self) -> None:
        """Remove the folder, if it was made: nothing is to be kept."""
        if self._folder is not None:
            self._folder.discard()

    def leave(self) -> None:
        """Remove it at the agent's end, unless it is kept."""
        if not self.is_kept:
            self.discard()


class Supervision(NamedTuple):
    """What is done for workers beside starting and stopping them.

    Args:
        preload: Modules that a process imports beforehand, from which workers are forked.
        forward_signals: Signals that all nodes' workers get when this process gets them.
        preempt_signals: At these all nodes' workers leave, and the job ends.
        signal_to: Whether signals that let workers save go to the worker first ("main"), or to its
            whole process group ("group"); "": those that end the job to the group, others to main.
        grace_s: Seconds that the agent has from such a signal on; None: the shutdown time-out, or
            what SLURM says.
        hang_timeout_s: Seconds without a sign of life of any rank that are a hang; None: for ever.
        hang_log_pattern: A regular expression; only lines of output that it is found in count.
        timeout_s: Seconds after which the job ends, from the agent's beginning on; None: no limit.
        health_check: A command that must succeed before each attempt; None: there is none.
        health_check_timeout_s: How long that may take, in seconds.
    """

    preload: tuple[str, ...] = ()
    forward_signals: tuple[Signals, ...] = ()
    preempt_signals: tuple[Signals, ...] = ()
    signal_to: str = ""
    grace_s: float | None = None
    hang_timeout_s: float | None = None
    hang_log_pattern: str | None = None
    timeout_s: float | None = None
    health_check: str | None = None
    health_check_timeout_s: float = 30

    @property
    def signals_of_workers(self) -> tuple[Signals, ...]:
        """All signals that are not meant for this process."""
        return (*self.forward_signals, *self.preempt_signals)

    def may_have_told_to_end(self, exitcode: int) -> bool:
        """Return whether a worker's exit code may only say that it was told to end."""
        return is_told_to_end(exitcode) or -exitcode in self.preempt_signals

    def require_fit_node(
        self,
        environ: Mapping[str, str],
        wait: Callable[[Sequence[int], float | None], None],
        guardian: Guardian | None,
    ) -> None:
        """Run the health check, if there is one; it raises for a node that is not fit."""
        if self.health_check:
            from ..monitoring.node_check import NodeCheck  # few jobs

            check = NodeCheck(self.health_check, self.health_check_timeout_s, environ, wait)
            check.require_fit_node(guardian)


class AgentFacts:
    """What an agent lets its companions know of it.

    Args:
        start_method: How functions get into new processes.
        shutdown_timeout_s: How long its workers have between a signal and SIGKILL.
        kernel_wait_s: For how long the kernel may hold a worker; None: what ``environ`` says.
        progress: Returns the number of its round, if it has one, and of its restarts; from any
            thread.
        record_timer_event: Records what happened to a timer; from any thread.
        kernel: What the kernel counts and logs while an attempt runs.
        keep_places: Keeps where workers are; returns what to say of that.
        restarts: What followed the rounds that have ended.
        record_places: Keeps where workers are, in the report; returns whether it has.
    """

    def __init__(
        self,
        *,
        group: WorkerGroup,
        environ: Mapping[str, str],
        rounds: RoundHandler,
        loop: LoopWait,
        start_method: str,
        shutdown_timeout_s: float,
        supervision: Supervision,
        kernel_wait_s: float | None,
        progress: Callable[[], tuple[int | None, int]],
        record_timer_event: Callable[[str, FileTimerRequest | None], None],
        keep_places: Callable[[Mapping[int, Whereabouts], PContext], str],
        restarts: Restarts,
        record_places: Callable[[str, Mapping[int, Whereabouts]], bool],
    ) -> None:
        self.group = group
        self.environ = environ
        self.rounds = rounds
        self.wake: Callable[[], None] = loop.wakeup.notify
        """Wakes the loop, from any thread."""
        self.start_wait = loop.start_wait
        """How it waits until a program is loaded."""
        self.start_method = start_method
        self.shutdown_timeout_s = shutdown_timeout_s
        self.supervision = supervision
        self.kernel_wait_s = kernel_wait_s
        self.progress = progress
        self.record_timer_event = record_timer_event
        self.take_signals: Callable[[], Sequence[tuple[Signals, float]]]
        self.take_signals = loop.inbox.take_passed_on
        """Returns, once, those signals of the workers that have come, and when."""
        self.keep_places = keep_places
        self.inbox: SignalInbox = loop.inbox
        """Takes requests to stop the job, besides signals."""
        self.last_decision: Callable[[], tuple[str, float]] = lambda: restarts.last_decision
        """Returns what followed the last round that has ended, and when."""
        self.record_places = record_places
        self.say_what_is_undecided: Callable[[], None] = restarts.say_what_is_undecided
        self.folder = FolderOfRun(environ, rounds.get_run_id)
