"""Restarts of a worker group by the rules that the user gave: what has died, and what follows.

The node on which a worker failed decides (``agent/failures/restart_rules.py``) and writes its
decision into the round's verdict. Every node then does what the verdict says.
"""

from __future__ import annotations

import os
import time
from collections import deque

from ...rendezvous.api.handler import Verdict
from ...rendezvous.logs import Log
from .leaving import STOPPED_BY
from .policy import DELAY, DOUBT, GIVE_UP, Step, delay_of, sentence_about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..failures.restart_causes import Death
    from ..failures.restart_rules import RestartRules

log = Log(__name__)

_MOST_DEATHS = 10_000
_SYNTAX_ERRORS = ("SyntaxError", "IndentationError", "TabError")


class Restarts:
    """The attempts of one agent, and what follows a failed one.

    Args:
        max_restarts: How many restarts the job may spend.
        rules: Which failures are followed by a restart, and how; None: all, at once.
    """

    def __init__(self, max_restarts: int, rules: RestartRules | None) -> None:
        self._max_restarts = max_restarts
        self._rules = rules
        self._deaths: deque[Death] = deque(maxlen=_MOST_DEATHS)
        self._began_at_s = 0.0
        self._delay_s = 0.0
        self._kept_back = ""
        self._is_for_later = False
        self._undecided: tuple[Verdict, int] | None = None
        self.last_decision = ("", 0.0)
        """What followed the last round that has ended, and when by the monotonic clock."""

    @property
    def has_window(self) -> bool:
        """Whether only the restarts of the last seconds count."""
        return self._rules is not None and self._rules.window_s is not None

    def begin_attempt(self) -> None:
        """Take note that the workers have been started."""
        self._began_at_s = time.monotonic()

    def left(self, place_in_job: int) -> int:
        """Return how many restarts are left, by how many the job has spent; a new round has begun.

        The new round tells whether the failure that was to cost a restart came of the loss of a
        node. Then it costs none.

        Returns:
            The number; below 0 where only the restarts of the last seconds count.
        """
        if self._undecided is not None:
            verdict, spent = self._undecided
            if place_in_job <= spent:
                self._deaths.pop()
                self._kept_back = sentence_about(Step.REJOIN, verdict, is_loss=True)
                self.last_decision = (self._kept_back, time.monotonic())
            self._undecided = None
            self.say_what_was_kept_back()
        left = self._max_restarts - place_in_job
        return left if self.has_window else max(0, left)

    def usable(self, left: int) -> int:
        """Return how many restarts may be spent; with a window, verdicts decide."""
        return self._max_restarts if self.has_window else left

    def stop_timeout_s(self, usual_s: float) -> float:
        """Return how long workers that are to be restarted have between SIGTERM and SIGKILL."""
        wanted_s = None if self._rules is None else self._rules.stop_timeout_s
        return usual_s if wanted_s is None else wanted_s

    def with_decision(self, verdict: Verdict, spent: int) -> Verdict:
        """Return the verdict of a failure with what follows.

        Args:
            verdict: Says that a worker failed.
            spent: How many restarts the job has spent.
        """
        from ..failures.restart_rules import GiveUp, RestartRules, decide  # failures only

        decision = decide(
            self._rules or RestartRules(),
            self._max_restarts,
            [*self._deaths, self._death_of(verdict)],
            spent,
            chance=os.urandom(1)[0] / 255,
        )
        details = dict(verdict.details)
        if not isinstance(decision, GiveUp):
            details |= {DELAY: decision.delay_s, DOUBT: decision.doubt}
        elif not decision.is_usual:
            details[GIVE_UP] = decision.reason
        return verdict._replace(details=details)

    def take_delay_s(self) -> float:
        """Return, once, for how long the next attempt is put off."""
        delay_s, self._delay_s = self._delay_s, 0.0
        return delay_s

    def announce(
        self,
        step: Step,
        verdict: Verdict | None,
        spent: int,
        *,
        is_shared: bool = False,
        is_met_at_once: bool = False,
    ) -> None:
        """Say what follows the end of a round; keep it back where it is not certain yet.

        A scheduler that stops all nodes stops this one in a moment: then no round follows. Where a
        worker failed, a node may be lost, and the worker may have failed of that: the next round
        tells (``left``).

        Args:
            step: RESTART, REJOIN or FAIL.
            verdict: Why the round ended.
            spent: How many restarts the job has spent before.
            is_shared: Whether the round had other nodes, which may be lost.
            is_met_at_once: Whether the next attempt begins at once: there are no nodes to wait for.
        """
        self._kept_back = self.follow(step, verdict, spent)
        self.last_decision = (self._kept_back, time.monotonic())
        if step is Step.RESTART and verdict is not None and is_shared and not self._delay_s:
            self._undecided = verdict, spent
        elif verdict is None or STOPPED_BY not in verdict.details:
            self._is_for_later = is_met_at_once and not self._delay_s
            self.say_what_was_kept_back()

    def say_for_later(self) -> None:
        """Say, once, what follows, if that had to wait until the next attempt's workers start.

        A line takes the thread of the log handlers, so it comes after the forks. It comes before
        whatever else the agent waits for, so that a person hears of a restart that takes long.
        """
        if self._is_for_later:
            self._is_for_later = False
            self.say_what_was_kept_back()

    def say_what_was_kept_back(self) -> None:
        """Say it, once, if nothing has to be kept back any more."""
        if self._undecided is not None or self._is_for_later:
            return
        sentence, self._kept_back = self._kept_back, ""
        if sentence:
            log.warning("%s", sentence)

    def say_what_is_undecided(self) -> None:
        """Say, once, what will follow as far as it is known: the next round does not come soon."""
        sentence, self._kept_back = self._kept_back, ""
        if sentence:
            log.warning("%s", sentence)

    def say_what_was_to_follow(self) -> None:
        """Say, once, which failure was to cost a restart: there is no next attempt."""
        if self._undecided is not None:
            self.say_what_is_undecided()
        self.say_for_later()

    def follow(self, step: Step, verdict: Verdict | None, spent: int) -> str:
        """Take note of what follows the end of a round; return a sentence about it for people.

        Args:
            step: RESTART, REJOIN or FAIL.
            verdict: Why the round ended.
            spent: How many restarts the job has spent before.

        Returns:
            The sentence; empty where the failure summary says it all.
        """
        if step is Step.FAIL and not self._rules_out_a_restart(verdict):
            return ""
        if step is Step.RESTART and verdict is not None:
            self._delay_s = delay_of(verdict)
            self._deaths.append(self._death_of(verdict))
        budget = f"of {self._max_restarts}"
        if self._rules is not None and self._rules.window_s is not None:
            budget = f"in all, at most {self._max_restarts} in {self._rules.window_s:g} s"
        return sentence_about(step, verdict, spent + 1, budget)

    def _rules_out_a_restart(self, verdict: Verdict | None) -> bool:
        """Return whether a verdict forbids a restart that the user has allowed."""
        return self._max_restarts > 0 and verdict is not None and GIVE_UP in verdict.details

    def _death_of(self, verdict: Verdict) -> Death:
        """Return how the attempt ended that a verdict, this node's or another's, is about."""
        from ..failures.failure import HANG
        from ..failures.report import STACK_TITLE  # failures only
        from ..failures.restart_causes import Death

        details, now_s = verdict.details, time.monotonic()
        exitcode, exception = details.get("exitcode"), details.get("exception")
        exception = exception if isinstance(exception, str) else ""
        bases = details.get("bases")
        # What can't be compiled has run nothing: its traceback has no frames.
        has_frames = STACK_TITLE in str(details.get("traceback", STACK_TITLE))
        return Death(
            exitcode if isinstance(exitcode, int) else 1,
            exception,
            now_s - self._began_at_s,
            now_s,
            is_of_syntax=exception.rpartition(".")[2] in _SYNTAX_ERRORS and not has_frames,
            bases=tuple(map(str, bases)) if isinstance(bases, list) else (),
            is_hang=details.get("cause") == HANG,
        )
