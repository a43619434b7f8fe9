"""One node: the real agent's loop and the real rendezvous, over simulated workers and a store."""

from elrun.agent.elastic.agent import SimpleElasticAgent
from elrun.agent.system.signals import SignalException
from elrun.agent.workers.worker import RunResult, WorkerSpec, WorkerState
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import RendezvousConnectionError, RendezvousError
from elrun.rendezvous.node.rendezvous import RoundRendezvous

from .world import Machine

RUN_ID = "run"
ANSWER_S = 10.0
NEVER_S = 1e6
"""The barrier at the exit must never be what ends a history."""


class Node(Machine):
    """A machine with one agent on it.

    Args:
        history: What it is part of.
        name: Its host name.
        clock_rate: The speed of its clock.
    """

    def __init__(self, history, name, clock_rate):
        is_steady = history.plan.keeps_time
        super().__init__(history.world, name, clock_rate, is_steady=is_steady)
        self.history = history
        self.home = history.site.next_home()
        self.connections = []
        self.server = None
        self.round = None
        self.restarts = 0
        self.awake_since = 0.0
        self.agent = None
        self.outcome = None
        self.has_lost_store = False

    def boot(self):
        """Start the agent."""
        self.history.tell(self, "starts")
        self.spawn(self._run)

    def crash(self, when=""):
        """Die, without a word.

        Args:
            when: At which moment.
        """
        if not self.is_dead:
            self.history.tell(self, f"crashes {when}".rstrip())
            self.kill()
            self.history.trouble.peers_feel(self)

    def leave(self):
        """Tell the agent to stop, as a person or a scheduler does."""
        if self.agent is not None and not self.is_dead:
            self.history.tell(self, "is told to leave")
            self.agent.interrupt()

    @property
    def place(self):
        """Where its workers run, if they do."""
        return None if self.agent is None or self.is_dead else self.agent.running_at

    @property
    def is_at_work(self):
        """Whether its workers run, and have not ended."""
        return self.place is not None and self.agent.is_busy

    def pause(self):
        """Stand still, and the store with it that lives here."""
        super().pause()
        self.history.site.refresh()

    def go_on(self):
        """Go on where it stood still."""
        self.awake_since = self.world.now
        super().go_on()
        self.history.site.refresh()

    def _run(self):
        plan = self.history.plan
        limits = plan.limits
        handler = RoundRendezvous(
            RendezvousParameters(
                "simulated",
                "",
                RUN_ID,
                limits.min_nodes,
                limits.max_nodes,
                secret=self.history.secret,
            ),
            self.history.site.way_for(self),
            plan.timing,
            self.clock,
        )
        self.agent = Agent(self, handler, plan.max_restarts)
        try:
            outcome = self.agent.run().state.value
        except (RendezvousError, SignalException) as error:
            outcome = error
        handler.shutdown()
        self.outcome = outcome
        self.history.tell(self, f"ends: {outcome}")
        self.history.site.saw_outcome(self, outcome)
        self.world.soon(self.kill)

    def kill(self):
        """End all threads, wherever they are; from outside of all of them."""
        super().kill()
        self.history.site.saw_end(self)
        for connection in self.connections:
            connection.lose_machine()


class Agent(SimpleElasticAgent):
    """The loop that every agent runs; its workers do what the history wants.

    Args:
        node: Its node.
        handler: How it meets the others.
        max_restarts: Restarts that the job may spend.
    """

    def __init__(self, node, handler, max_restarts):
        spec = WorkerSpec("default", 1, handler, entrypoint="train", max_restarts=max_restarts)
        super().__init__(spec, exit_barrier_timeout=NEVER_S, environ={})
        self.running_at = None
        self._node = node
        self._place = None
        self._state = WorkerState.INIT
        self._attempt = 0
        self._signal = None

    def interrupt(self):
        """Deliver a signal."""
        self._signal = SignalException("elrun was stopped by SIGTERM", 15)
        self._change.set()

    def end_workers(self, attempt, state):
        """Let this node's workers end, if it still is that attempt."""
        is_running = self._state is WorkerState.HEALTHY and not self._node.is_dead
        if attempt == self._attempt and is_running:
            self._node.history.tell(self._node, f"its workers have {state.value.lower()}")
            self._state = state
            if state is WorkerState.SUCCEEDED:
                self._witness.saw_success(self._node, self.running_at)
            self._change.set()

    @property
    def is_busy(self):
        """Whether its workers have not ended."""
        return self._state is WorkerState.HEALTHY

    @property
    def attempt(self):
        """Which attempt runs, by a number that no other has."""
        return self._attempt

    def _start_workers(self, worker_group):
        history = self._node.history
        self._attempt += 1
        self._state = WorkerState.HEALTHY
        self.running_at = self._place
        self._witness.saw_start(self._node, self._place)
        history.site.saw_start(self._node, self._place)
        history.saw_start(self._node)
        return dict.fromkeys(range(worker_group.spec.local_world_size), 0)

    def _stop_workers(self, worker_group):
        if self.running_at is not None:
            told = self._rounds.verdict()
            self._witness.saw_told(self._node, self.running_at, told)
        self._shutdown()

    @property
    def _witness(self):
        return self._node.history.site.witness_of(self._node)

    def _shutdown(self, death_sig=15, timeout=30):
        if self.running_at is not None:
            if self._state is WorkerState.HEALTHY:
                self._node.world.running.sleep(self._node.history.stop_s())
            self.running_at = None
            self._state = WorkerState.STOPPED

    def _monitor_workers(self, worker_group):
        return RunResult(self._state)

    @property
    def _watch_interval(self):
        return None

    def _wait_for_change(self, timeout_s):
        super()._wait_for_change(timeout_s)
        if self._signal is not None:
            signal, self._signal = self._signal, None
            raise signal

    def _next_round(self):
        call = _Call(self._node, self._rounds.next_rendezvous, self._change.set)
        while not call.is_done:
            self._wait_for_change(None)
        info = call.result()
        self._place = info.placement
        return info

    def _ask(self, question, timeout_s=ANSWER_S):
        deadline = self._node.clock() + timeout_s
        call = _Call(self._node, question, self._change.set)
        while not call.is_done:
            left_s = deadline - self._node.clock()
            if left_s <= 0:
                self._node.has_lost_store = True
                raise RendezvousConnectionError("the store has not answered")
            self._wait_for_change(left_s)
        return call.result()


class _Call:
    """A question in a thread of its own, as ``agent.local`` asks it."""

    def __init__(self, node, question, wake):
        self.is_done = False
        self._question = question
        self._wake = wake
        self._answer = self._error = None
        node.spawn(self._run)

    def _run(self):
        try:
            self._answer = self._question()
        except Exception as error:
            self._error = error
        self.is_done = True
        self._wake()

    def result(self):
        if self._error is not None:
            raise self._error
        return self._answer
