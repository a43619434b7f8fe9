"""One node: the real machine of the rendezvous, and an agent that decides by the real policy."""

from functools import partial

from elrun.agent.system.signals import SignalException
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.node.machine import Act, Answered, Asked, Deliver
from elrun.rendezvous.node.procedures import RoundMachine
from elrun.rendezvous.protocol.records import Node as Record

from .agent import Agent
from .keys import RUN
from .world import Machine


class Participant(Machine):
    """A machine that drives a ``RoundMachine``; who asks it takes the answers.

    A subclass says how the store is reached: ``connect`` and ``survey``.

    Args:
        world: The world.
        name: The host name.
        run: The run's keys.
        limits: The node's minimum and maximum of nodes, and the restarts that the job may spend.
        timing: How long to wait for what.
        clock_rate: The speed of the clock.
        is_steady: See ``Machine``.
    """

    def __init__(self, world, name, run, limits, timing, clock_rate=1.0, *, is_steady=True):
        super().__init__(world, name, clock_rate, is_steady=is_steady)
        self.workers, self.wish = 1, None
        self._limits = limits
        self._questions = 0
        self._askers = {}
        self._ports = 20000
        self.rounds = RoundMachine(run, limits, timing, name, self._describe)

    def ask(self, question, args, hear):
        """Ask the machine something.

        Args:
            question: A method of ``RoundMachine``.
            args: Its arguments.
            hear: Takes the answer, and the error that came instead.
        """
        self._questions += 1
        self._askers[self._questions] = hear
        self.handle(Asked(self._questions, question, args))

    def handle(self, event):
        """Take in an event, and do what follows."""
        events = [event]
        for each in events:  # grows meanwhile
            if self.is_dead:
                return
            for action in self.rounds.handle(each, self.clock()):
                kind = type(action)
                if kind is Act:
                    number, (store, name, args) = action
                    if name == "sleep":
                        self.after(args[0], self.hear, number, None, None)
                    elif store is None or name == "close":
                        self._act(number, store, name, args, events)
                    else:
                        store.ask(name, args, partial(self.hear, number))
                elif kind is Deliver:
                    self._askers.pop(action.number)(action.value, action.error)
                else:
                    self.wake()

    def hear(self, number, value, error):
        """Take the answer to an action."""
        self.handle(Answered(number, value, error))

    def wake(self):
        """Take note that the verdict may have changed."""

    def choose(self, place):
        """Begin with this endpoint next."""

    def _act(self, number, store, name, args, events):
        match name:
            case "connect":
                self.connect(args[0], partial(self.hear, number))
            case "survey":
                self.survey(partial(self.hear, number))
            case "take_endpoint":
                self._ports += 1
                events.append(Answered(number, Endpoint(self.name, self._ports)))
            case _:
                if name == "choose":
                    self.choose(*args)
                elif name == "close":
                    store.close()
                events.append(Answered(number))

    def _describe(self, address, port, origin, restarts):
        return Record(
            self.name,
            address,
            port,
            self.workers,
            "default",
            self._limits,
            origin,
            wish=self.wish,
            restarts=restarts,
        )


class Node(Participant):
    """One agent, on a machine of its own.

    Args:
        history: What it is part of.
        name: Its host name.
        clock_rate: The speed of its clock.
    """

    def __init__(self, history, name, clock_rate):
        plan = history.plan
        super().__init__(
            history.world,
            name,
            RUN,
            plan.limits._replace(max_restarts=plan.max_restarts),
            plan.timing,
            clock_rate,
            is_steady=plan.keeps_time,
        )
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
        self._leave_s = plan.timing.leave_s + 0.2
        self._way = history.site.way_for(self)

    def boot(self):
        """Start the agent."""
        self.history.tell(self, "starts")
        self.agent = Agent(self, self.history.plan.max_restarts)
        self.soon(self.agent.begin)

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
            self.do(self.agent.interrupt, SignalException("elrun was stopped by SIGTERM", 15))

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

    def connect(self, forming, hear):
        """Reach the store."""
        self._way.connect(forming, hear)

    def survey(self, hear):
        """Look at the other endpoints."""
        self._way.survey(hear)

    def choose(self, place):
        """Begin with this endpoint next."""
        self._way.choose(place)

    def wake(self):
        """Take note that the verdict may have changed."""
        self.agent.wake()

    def end(self, outcome):
        """Leave the rendezvous, as the agent has ended; and then be gone."""
        is_over = []

        def finish(*_):
            if is_over:
                return
            is_over.append(True)
            for connection in self.connections:
                connection.close()
            self.outcome = outcome
            self.history.tell(self, f"ends: {outcome}")
            self.history.site.saw_outcome(self, outcome)
            self.world.soon(self.kill)

        self.after(self._leave_s, finish)
        self.ask(RoundMachine.leave, (), finish)

    def kill(self):
        """Do nothing any more."""
        super().kill()
        self.history.site.saw_end(self)
        for connection in self.connections:
            connection.lose_machine()
