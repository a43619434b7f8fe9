"""An agent as its rendezvous knows it: the loop of ``SimpleElasticAgent``, with invented workers.

The loop is a procedure: it yields what it waits for. The decisions are those of the real
``policy``, and of the real ``leaving``.
"""

import contextlib
from typing import Any, NamedTuple

from elrun.agent.elastic.leaving import verdict_of
from elrun.agent.elastic.policy import Step, next_step
from elrun.agent.system.signals import SignalException
from elrun.agent.workers.worker import WorkerState
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
)
from elrun.rendezvous.node.procedures import RoundMachine

ANSWER_S = 10.0
FAREWELL_S = 1.0


class Ask(NamedTuple):
    """Wait for the answer to a question; None: for as long as it takes."""

    question: object
    args: tuple[Any, ...] = ()
    timeout_s: float | None = ANSWER_S


class Sleep(NamedTuple):
    """Wait for some seconds."""

    seconds: float


class Change(NamedTuple):
    """Wait until the verdict or the workers' state may have changed."""


class Agent:
    """One agent.

    Args:
        node: Its node.
        max_restarts: Restarts that the job may spend.
    """

    def __init__(self, node, max_restarts):
        self.running_at = None
        self.attempt = 0
        self._node = node
        self._max_restarts = max_restarts
        self._state = WorkerState.INIT
        self._signal = None
        self._has_changed = False
        self._turn = 0
        self._wanted = None
        self._script = self._run()

    def begin(self):
        """Start."""
        self._advance()

    def interrupt(self, signal):
        """Deliver a signal."""
        self._signal = signal
        if self._wanted is not None and self._is_interruptible:
            self._raise_signal()

    def wake(self):
        """Take note that the verdict may have changed."""
        self._has_changed = True
        if isinstance(self._wanted, Change):
            self._node.soon(self._go_on, self._turn)

    def end_workers(self, attempt, state):
        """Let this node's workers end, if it still is that attempt."""
        if attempt == self.attempt and self.is_busy and not self._node.is_dead:
            self._node.history.tell(self._node, f"its workers have {state.value.lower()}")
            self._state = state
            if state is WorkerState.SUCCEEDED:
                self._witness.saw_success(self._node, self.running_at)
            self.wake()

    @property
    def is_busy(self):
        """Whether its workers run."""
        return self._state is WorkerState.HEALTHY

    @property
    def _witness(self):
        return self._node.history.site.witness_of(self._node)

    # How the procedure goes on.

    def _advance(self, value=None, error=None):
        self._turn += 1
        self._wanted = None
        try:
            wanted = self._script.send(value) if error is None else self._script.throw(error)
        except StopIteration as end:
            self._node.end(end.value)
            return
        self._wanted = wanted
        if self._signal is not None and self._is_interruptible:
            self._raise_signal()
            return
        turn = self._turn
        if isinstance(wanted, Ask):
            if wanted.timeout_s is not None:
                self._node.after(wanted.timeout_s, self._time_out, turn)
            self._node.ask(wanted.question, wanted.args, lambda *answer: self._go_on(turn, *answer))
        elif isinstance(wanted, Sleep):
            self._node.after(wanted.seconds, self._go_on, turn)
        elif self._has_changed:
            self._node.soon(self._go_on, turn)

    def _go_on(self, turn, value=None, error=None):
        if turn == self._turn:
            if isinstance(self._wanted, Change):
                self._has_changed = False
            self._advance(value, error)

    def _time_out(self, turn):
        if turn == self._turn:
            self._node.has_lost_store = True
            self._advance(None, RendezvousConnectionError("the store has not answered"))

    def _raise_signal(self):
        signal, self._signal = self._signal, None
        self._advance(None, signal)

    @property
    def _is_interruptible(self):
        """Whether a signal ends the wait: workers that stop, and a farewell, are waited for."""
        wanted = self._wanted
        return isinstance(wanted, Change) or (
            isinstance(wanted, Ask) and wanted.timeout_s != FAREWELL_S
        )

    # The procedure.

    def _run(self):
        """Run to the end; return the outcome."""
        try:
            try:
                outcome = yield from self._loop()
            except RendezvousGracefulExitError:
                outcome = "SUCCEEDED"
            yield from self._shut_down()
            return outcome
        except (RendezvousError, SignalException) as error:
            verdict = None
            if self.running_at is not None:
                verdict = verdict_of(error, self.running_at.group_rank, self._node.name)
            if verdict is not None:
                with contextlib.suppress(RendezvousError):
                    yield Ask(RoundMachine.conclude, (verdict,), FAREWELL_S)
            yield from self._shut_down()
            return error

    def _loop(self):
        yield from self._start()
        waited = False
        while True:
            verdict = self._hear_verdict()
            step = next_step(self._state, verdict, self._left, waited=waited)
            if step is Step.REPORT_FAILURE:
                verdict = yield from self._report_failure()
                step = next_step(self._state, verdict, self._left)
            waited = step is Step.WAIT_FOR_OTHERS
            match step:
                case Step.WATCH:
                    yield Change()
                case Step.WAIT_FOR_OTHERS:
                    yield from self._exit_barrier()
                case Step.FINISH:
                    return "SUCCEEDED"
                case Step.RESTART | Step.REJOIN:
                    yield from self._stop()
                    yield from self._start()
                case Step.FAIL:
                    yield from self._stop()
                    with contextlib.suppress(RendezvousError):
                        yield Ask(RoundMachine.set_closed)
                    return "FAILED"
                case _:
                    raise RendezvousClosedError("the run was aborted")

    def _hear_verdict(self):
        try:
            return self._node.rounds.state.verdict_or_error()
        except RendezvousConnectionError:
            if self._state is not WorkerState.SUCCEEDED:
                raise
            return None

    def _report_failure(self):
        rank = self.running_at.group_rank
        failure = Verdict(VerdictKind.WORKER_FAILED, rank, f"a worker of rank {rank} failed")
        if self._left == 0:
            with contextlib.suppress(RendezvousError):
                yield Ask(RoundMachine.await_signs_of_life)
        return (yield Ask(RoundMachine.conclude, (failure,)))

    def _exit_barrier(self):
        try:
            yield Ask(RoundMachine.arrive, (), None)
            while self._node.rounds.state.verdict_or_error() is None:
                yield Change()
        except RendezvousError:
            pass

    def _start(self):
        _, place = yield Ask(RoundMachine.next_round, (), None)
        self._left = self._max_restarts - place.restart_count
        history = self._node.history
        self.attempt += 1
        self._state = WorkerState.HEALTHY
        self.running_at = place
        self._witness.saw_start(self._node, place)
        history.site.saw_start(self._node, place)
        history.saw_start(self._node)

    def _stop(self):
        if self.running_at is not None:
            verdict = self._node.rounds.state.verdict_or_error()
            self._witness.saw_told(self._node, self.running_at, verdict)
        yield from self._shut_down()

    def _shut_down(self):
        if self.running_at is not None:
            if self.is_busy:
                yield Sleep(self._node.history.stop_s())
            self.running_at = None
            self._state = WorkerState.STOPPED
