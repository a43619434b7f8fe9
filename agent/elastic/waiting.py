"""How the agent's loop waits: for workers, signals, the rendezvous, and what companions wait for.

All waits of an agent are one ``poll`` here. A call that may block runs in a thread meanwhile, so
that a signal can end each wait at once.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import time

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler
from ...rendezvous.errors import RendezvousConnectionError
from ...rendezvous.logs import Log, live_line
from ...rendezvous.threads import Call
from ..processes.executor import StartWait
from ..system.pidfd import NEVER, wait_briefly
from ..system.signals import SignalInbox
from ..system.wakeup import Wakeup
from .companions import Companions
from .facts import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import TypeVar

    from ..output.outlets import JobOutput
    from ..system.signals import Handler
    from .facts import AgentFacts
    from .node_traits import NodeTraits
    from .places import Record

    _T = TypeVar("_T")

log = Log(__name__)

_THREAD = "elrun-rendezvous"
_TELL_OF_WAIT_S = 5.0
# The heartbeat's patience and an interval: by then it is known that a node was lost.
_UNDECIDED_S = 3.0
_LAST_LOOK_S = 1.0
_MOMENT_S = 0.2
_OF_WAIT = (
    "all workers have ended; waiting until the console takes what they printed last; a signal ends "
    "that within %s s (--shutdown-timeout), another Ctrl-C at once"
)


class LoopWait:
    """Waits for whatever may change, lets the companions do what is due, and raises for a signal.

    Args:
        signals: Names of the signals that end the job.
        handler_afterwards: What handles these signals once the agent no longer does.
        tell_places: Says where the workers are; called when SIGUSR2 has asked for it.
        supervision: Which signals are the workers', and how long the job may take.
    """

    def __init__(
        self,
        signals: str,
        rounds: RoundHandler,
        handler_afterwards: Handler | None,
        tell_places: Callable[[], None],
        supervision: Supervision | None = None,
    ) -> None:
        supervision = supervision or Supervision()
        self.wakeup = Wakeup()
        self.inbox = SignalInbox(
            signals,
            self.wakeup,
            handler_afterwards=handler_afterwards,
            passed_on=supervision.forward_signals,
            limit_s=supervision.timeout_s,
            preempting=supervision.preempt_signals,
        )
        self.companions = Companions()
        self.on_begin: Callable[[], object] = lambda: None
        """Called once the workers of an attempt have been started, or their start takes long."""
        self._output: JobOutput | None = None
        self._rounds = rounds
        self._tell_places = tell_places
        self._traits: NodeTraits | None = None
        rounds.subscribe(self.wakeup.notify)

    @property
    def start_wait(self) -> StartWait:
        """How it waits for programs that are being loaded: a signal only makes them unwanted."""
        return StartWait(self._is_start_unwanted, self._wait_and_tick, self.on_begin)

    def output(self) -> JobOutput:
        """Return what carries the output of all attempts, as far as it is not inherited."""
        if self._output is None:
            from ..output.outlets import JobOutput  # none is needed on a terminal

            self._output = JobOutput(self.wakeup.notify)
        return self._output

    @property
    def has_shown_all(self) -> bool:
        """Whether the console has taken all that it was to show; False while it still may."""
        return self._output is None or self._output.has_shown_all

    def wait(self, fds: Sequence[int], timeout_s: float | None) -> None:
        """Wait until something may have changed.

        Args:
            fds: Descriptors of the caller's; one below 0 belongs to a worker that is reaped.
            timeout_s: The longest wait; None: there is no limit.

        Raises:
            SignalException: A signal has come that ends the job.
        """
        self._wait_and_tick(fds, timeout_s)
        self.inbox.raise_if_any()

    def wait_for_start(self, fds: Sequence[int], timeout_s: float | None) -> None:
        """Wait as ``wait`` does for what holds up a start; say before what the start is about."""
        self.on_begin()
        self.wait(fds, timeout_s)

    def ask(self, question: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """Return the answer to a question to the rendezvous, whose store may have frozen.

        Args:
            timeout_s: How long the answer may take; by default as long as the rendezvous allows
                (``--rdzv-conf store_patience``).

        Raises:
            RendezvousConnectionError: It takes longer.
            SignalException: A signal has come that ends the job.
        """
        if self._rounds.answers_at_once:
            return question()
        deadline = NEVER if timeout_s is None else time.monotonic() + timeout_s
        call = Call(question, _THREAD, self.wakeup.notify, or_here=True)
        while not call.is_done:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RendezvousConnectionError(
                    f"the rendezvous store has not answered for {timeout_s:g} s"
                )
            self.wait((), None if left_s == NEVER else left_s)
        return call.result()

    def meet(self, facts: AgentFacts) -> RendezvousInfo:
        """Take part in the next round, and say now and then how the wait for it stands.

        Args:
            facts: What this node tells the others of itself.

        Raises:
            RendezvousError: There is no round.
            SignalException: A signal has come that ends the job.
        """
        if self._rounds.answers_at_once:
            self.inbox.raise_if_any()
            return self._rounds.next_rendezvous()
        from .node_traits import NodeTraits  # not the plain job of one node
        from .wait_notices import LongWait

        self._traits = traits = self._traits or NodeTraits(facts, self.ask)
        traits.describe()
        call = Call(self._rounds.next_rendezvous, _THREAD, self.wakeup.notify, or_here=False)
        rounds = self._rounds
        notices = LongWait(
            rounds.get_run_id(),
            rounds.describe_wait,
            rounds.wait_limit_s,
            self.wakeup.notify,
            live=live_line.show,
        )
        undecided_until = time.monotonic() + _UNDECIDED_S
        with contextlib.closing(notices):
            while not call.is_done:
                left_s = undecided_until - time.monotonic()
                if left_s <= 0:
                    facts.say_what_is_undecided()
                    left_s = NEVER
                turn_s = notices.turn()
                soonest_s = min(left_s, NEVER if turn_s is None else turn_s)
                self.wait((), None if soonest_s == NEVER else soonest_s)
        info = call.result()
        traits.say_differences("" if info.placement is None else info.placement.notice)
        return info

    def await_verdict(self, timeout_s: float) -> None:
        """Wait until the round has ended, for a bounded time."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0 and self._rounds.verdict() is None:
            self.wait((), left_s)

    @contextlib.contextmanager
    def answering_aside(self, teller: Callable[[], Callable[[], None]]) -> Iterator[None]:
        """Answer requests in a thread of their own while the main thread is not in the loop.

        The handler of the signal starts that thread, since it may run in the midst of anything: in
        a line that is being logged, for instance, where the main thread holds locks.

        Args:
            teller: Called by the handler, in the main thread: copies what the main thread may
                change meanwhile; returns what says, in the other thread, where the workers are.
        """

        def answer_in_thread() -> None:
            tell = teller()
            with contextlib.suppress(RuntimeError):  # there can be no thread: the loop answers
                _thread.start_new_thread(self._answer_by, (tell,))

        self.inbox.answer_aside = answer_in_thread
        if self.inbox.is_asked:  # before, and the loop has not seen it
            answer_in_thread()
        try:
            yield
        finally:
            self.inbox.answer_aside = None

    def _answer(self) -> None:
        self._answer_by(self._tell_places)

    def _answer_by(self, tell: Callable[[], None]) -> None:
        while self.inbox.take_request():
            tell()

    def await_readers(self, grace_s: float) -> None:
        """Wait, when all workers have ended, until what they printed is written.

        What reads it may pause for as long as it likes, until a signal says that elrun is to stop.

        Args:
            grace_s: How long it may take from that signal on; a further SIGINT or SIGQUIT ends it.

        Raises:
            SignalException: A signal has come, and not all is written.
        """
        begun_at = time.monotonic()
        tell_at, urgent_at = begun_at + _TELL_OF_WAIT_S, NEVER
        while self._output is not None and self._output.is_pending:
            now = time.monotonic()
            if wait_briefly([self.inbox.urgency.fileno()], 0):
                urgent_at = min(now, urgent_at)
            deadline = max(self.inbox.first_at + grace_s, begun_at + _LAST_LOOK_S)
            deadline = min(deadline, urgent_at + _MOMENT_S)
            if now >= deadline:
                self._output.give_up()
                self.inbox.raise_if_any()
                return
            if now >= tell_at:
                tell_at = NEVER
                log.warning(_OF_WAIT, f"{grace_s:g}")
            wait_briefly([self.wakeup.fileno()], min(deadline, tell_at) - now)
            self.wakeup.clear()

    def stop_notices(
        self, workers: Mapping[int, int], grace_s: float, record: Record
    ) -> AbstractContextManager[object]:
        """Return a context for the stop of the workers: people hear of it if a signal began it.

        Args:
            workers: Process ids of the running workers by global rank.
            grace_s: How long they have.
            record: Takes down where they were.
        """
        number = self.inbox.stopped_by
        if number is None or not grace_s or not workers:
            return contextlib.nullcontext()
        try:
            from ..processes.stop_notice import stop_notice  # few jobs are stopped
            from .places import places_told
        except OSError as error:  # there is no descriptor to read the module with
            log.info("the stop is not announced: %s", error.strerror)
            return contextlib.nullcontext()
        notices = contextlib.ExitStack()
        notices.enter_context(places_told(workers, record))
        heeds_ctrl_c = self.inbox.heeds(signal.SIGINT)
        why = self.inbox.why_stopped
        notices.enter_context(stop_notice(number, grace_s, heeds_ctrl_c=heeds_ctrl_c, why=why))
        return notices

    def _wait_and_tick(self, fds: Sequence[int], timeout_s: float | None) -> None:
        due = self.companions.wakes()
        times = (timeout_s, due.within_s, self.inbox.time_left_s)
        times_s = [each for each in times if each is not None]
        output = self._output
        others = (*fds, *due.fds, *(output.fds() if output else ()))
        mine = [self.wakeup.fileno(), *(fd for fd in others if fd >= 0)]
        wait_briefly(mine, min(times_s, default=None))
        self.wakeup.clear()
        if output is not None:
            output.tick()
        self._answer()
        self.companions.tick()

    def _is_start_unwanted(self) -> bool:
        """Return whether workers that are being started would be stopped again at once."""
        try:
            return self.inbox.has_any() or self._rounds.verdict() is not None
        except RendezvousConnectionError:  # the loop asks again, and stops them
            return True
