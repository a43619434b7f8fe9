"""The list of an agent's companions, and all of them as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ...rendezvous.api.handler import RendezvousInfo
from ...rendezvous.api.parameters import truth_of
from ..processes.companion import Companion, Trouble, Wakes
from ..processes.context import PContext
from ..processes.guardian import Guardian
from ..workers.environment import (
    ENABLE_FILE_TIMER,
    HEALTH_CHECK_PORT,
    UNINTERRUPTIBLE_STATE_TIMEOUT,
)
from ..workers_store.host import StoreHost
from .facts import AgentFacts
from .observer import Moment
from .readiness import Late, Readiness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ..monitoring.preemption_notice import PreemptionNotice
    from ..preload.companion import PreloadServer


CONTROL_AFTER_S = 1.0
"""How long an agent lives before it can be asked by `elrun status` and others."""


class Companions:
    """The companions of one agent, met as one."""

    def __init__(self) -> None:
        self._all: list[Companion] = []
        self.preload_server: PreloadServer | None = None
        """What workers are forked from, if the user wants that."""
        self.preemption_notice: PreemptionNotice | None = None
        """Tells workers that ask whether they are to leave, if the job may be preempted."""
        self._trouble: Trouble | None = None

    @property
    def is_needed_by_others(self) -> bool:
        """Whether other nodes lose something that they need when this agent ends."""
        return any(each.is_needed_by_others for each in self._all)

    def begin(self, kinds: Sequence[Kind], facts: AgentFacts, guardian: Guardian) -> None:
        """Begin those that the job asks for, in their order.

        Args:
            kinds: Each returns a companion that has begun, or None.
            facts: What they may know of the agent.
            guardian: Ends their processes, and removes their folders, if the agent is killed.
        """
        for kind in kinds:
            companion = kind(facts, guardian, self)
            if companion is not None:
                self._all.append(companion)

    def add(self, companion: Companion) -> None:
        """Let a companion stand beside the loop that has begun already."""
        self._all.append(companion)

    def environment(self) -> dict[str, str]:
        """Return what the companions that have begun add to every worker's environment."""
        found: dict[str, str] = {}
        for each in self._all:
            found |= each.environment()
        return found

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Get all ready for an attempt; see ``Companion.prepare``."""
        for each in self._all:
            each.prepare(info, is_last=is_last)

    def begin_attempt(self, workers: PContext) -> None:
        """Show all of them the workers that have just been started."""
        for each in self._all:
            each.begin_attempt(workers)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Let all of them know that the body asks the workers for their stacks."""
        with contextlib.ExitStack() as contexts:
            for each in self._all:
                contexts.enter_context(each.asking())
            yield

    def wakes(self) -> Wakes:
        """Return what makes the next tick due."""
        wakes = [each.wakes() for each in self._all]
        times_s = [each.within_s for each in wakes if each.within_s is not None]
        return Wakes([fd for each in wakes for fd in each.fds], min(times_s, default=None))

    def tick(self) -> None:
        """Let all of them do what is due; the first trouble is kept until it is taken."""
        for each in self._all:
            trouble = each.tick()
            self._trouble = self._trouble or trouble

    def take_failures(self) -> Trouble | None:
        """Return, once, the trouble that workers have which have not ended, if there is any."""
        if self._trouble is None or not self._trouble.failures:
            return None
        trouble, self._trouble = self._trouble, None
        return trouble

    def take_loss(self) -> str:
        """Return, once, what the workers have lost that they need, or ``""``."""
        if self._trouble is None or self._trouble.failures:
            return ""
        trouble, self._trouble = self._trouble, None
        return trouble.reason

    def end_attempt(self) -> None:
        """Let all of them know that the attempt is over; its troubles are, too."""
        for each in self._all:
            each.end_attempt()
        self._trouble = None

    def end(self) -> None:
        """End all, the last one first."""
        begun, self._all = self._all, []
        self.preload_server = self.preemption_notice = None
        with contextlib.ExitStack() as ends:
            for each in begun:
                ends.callback(each.end)


Kind = Callable[[AgentFacts, Guardian, Companions], Companion | None]
"""Begins a companion if the job asks for it; it may use those that have begun before."""


def _health(facts: AgentFacts, *_: object) -> Companion | None:
    address = facts.environ.get(HEALTH_CHECK_PORT)
    if not address:
        return None
    from ..monitoring.health import describe, start_health  # few jobs

    def look() -> dict[str, Any]:
        number, restarts = facts.progress()
        run_id = facts.rounds.get_run_id()
        return describe(facts.group, run_id=run_id, round_number=number, restarts=restarts)

    return start_health(address, facts.shutdown_timeout_s, facts.wake, look)


def _watchdog(facts: AgentFacts, guardian: Guardian, _: Companions) -> Companion | None:
    if not truth_of(facts.environ.get(ENABLE_FILE_TIMER, "")):
        return None
    from ..monitoring.watchdog import begin_watchdog  # few jobs

    watchdog = begin_watchdog(facts.environ, facts.rounds.get_run_id(), facts.record_timer_event)
    if watchdog is not None:
        guardian.watch_folder(watchdog.own_dir)
    return watchdog


def _kernel_waits(facts: AgentFacts, *_: object) -> Companion | None:
    asked = facts.kernel_wait_s
    patience = facts.environ.get(UNINTERRUPTIBLE_STATE_TIMEOUT) if asked is None else str(asked)
    if not patience:
        return None
    from ..monitoring.kernel_waits import watch_kernel_waits  # few jobs

    return watch_kernel_waits({UNINTERRUPTIBLE_STATE_TIMEOUT: patience})


def _hang_watch(facts: AgentFacts, *_: object) -> Companion | None:
    if facts.supervision.hang_timeout_s is None:
        return None
    from ..monitoring.hang_watch import HangWatch  # few jobs

    return HangWatch(
        facts.supervision.hang_timeout_s,
        facts.supervision.hang_log_pattern,
        facts.group,
        facts.wake,
        facts.keep_places,
    )


def _signal_forwarding(facts: AgentFacts, guardian: Guardian, _: Companions) -> Companion | None:
    if not facts.supervision.forward_signals:
        return None
    from ..monitoring.signal_forwarding import SignalForwarder  # few jobs

    return SignalForwarder(
        facts.supervision.forward_signals,
        facts.take_signals,
        guardian,
        facts.rounds,
        facts.wake,
        to_group=facts.supervision.signal_to == "group",
    )


def _preemption_notice(facts: AgentFacts, _: Guardian, companions: Companions) -> Companion | None:
    if not facts.supervision.signals_of_workers:
        return None
    from ..monitoring.preemption_notice import PreemptionNotice  # few jobs

    notice = PreemptionNotice(facts.supervision.signals_of_workers)
    companions.preemption_notice = notice
    return notice


def _preload_server(
    facts: AgentFacts, guardian: Guardian, companions: Companions
) -> Companion | None:
    if not facts.supervision.preload:
        return None
    from ..preload.companion import begin_preload_server  # few jobs

    companions.preload_server = begin_preload_server(
        facts.supervision.preload,
        facts.group.spec,
        facts.start_method,
        facts.environ,
        companions.environment(),
        guardian,
        facts.start_wait,
    )
    return companions.preload_server


def _store_host(facts: AgentFacts, guardian: Guardian, companions: Companions) -> Companion:
    server = companions.preload_server
    return StoreHost(
        facts.environ,
        facts.group.spec.master_port,
        facts.rounds,
        guardian,
        lambda: None if server is None else server.preloading,
    )


def _control(facts: AgentFacts, _: Guardian, companions: Companions) -> Companion:
    began_at, mailbox = Moment.now(), None
    if facts.rounds.meeting_place:  # other nodes may ask
        from ..control.watched import TOPIC, Mailbox  # not the plain job of one node

        mailbox = Mailbox()
        facts.rounds.listen([TOPIC], mailbox.hear)  # in the first round already

    def begin() -> Companion | None:
        try:
            from ..control.companion import begin_control  # few agents live so long
            from ..control.watched import Mailbox, Watched
        except (OSError, ImportError):  # there is no descriptor to read the module with
            return None
        watched = Watched(
            facts.group,
            facts.rounds,
            facts.progress,
            facts.last_decision,
            facts.inbox,
            facts.record_places,
            facts.shutdown_timeout_s,
            mailbox or Mailbox(),
        )
        return begin_control(watched, facts.folder.get(), began_at.wall_s, began_at.boot_s)

    return Late(begin, companions.add, CONTROL_AFTER_S)


def _readiness(*_: object) -> Companion:
    return Readiness()


COMPANIONS: tuple[Kind, ...] = (
    _health,
    _watchdog,
    _kernel_waits,
    _hang_watch,
    _signal_forwarding,
    _preemption_notice,
    _preload_server,
    _store_host,
    _readiness,
    _control,
)
"""All there are, in the order in which they begin."""
