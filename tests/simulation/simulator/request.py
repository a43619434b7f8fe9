"""One request to the store, on its way there and back."""

import functools
from heapq import heappush

from elrun.rendezvous.errors import RendezvousConnectionError, RendezvousRoundOverError

from .faults import Fate

REQUEST_S = 3.0
"""How long etcd's client waits for an answer before it asks again."""


class Request:
    """One request: it is sent, takes effect, and is answered, unless something happens.

    Args:
        connection: Its way.
        name: The method of ``Server``.
        args: What that takes, after the machine.
        hear: Takes the answer and the error that comes instead, on the machine that asks.
    """

    __slots__ = (
        "_answer",
        "_has_answer",
        "_is_given_up",
        "args",
        "connection",
        "hear",
        "name",
        "world",
    )

    def __init__(self, connection, name, args, hear):
        self.connection = connection
        self.world = connection.world
        self.name = name
        self.args = args
        self.hear = hear
        self._has_answer = self._is_given_up = False
        self._answer = None

    def send(self):
        """Set out for the server."""
        connection = self.connection
        if self._is_given_up:
            return
        if connection.is_cut:
            connection.hold_request(self)
        else:
            world = self.world
            arrival = connection.next_arrival()
            heappush(world.agenda, (arrival, world.next_turn(), self._arrive, ()))

    def repeat(self):
        """Ask once more for an answer: what took effect does not do so again."""
        if self._is_given_up:
            return
        if self._has_answer:
            self._reply(self._answer)
        else:
            self.send()

    def fail(self, why):
        """Let the machine know that no answer comes."""
        self._is_given_up = True
        self.connection.machine.soon(self.hear, None, RendezvousConnectionError(why))

    def _arrive(self):
        connection = self.connection
        if connection.is_cut:
            connection.hold_request(self)
            return
        fate = connection.fate_of(self)
        if fate is None:
            self._take_effect()
            self._answer_in_a_while()
        elif fate is Fate.CRASH_BEFORE:
            connection.machine.crash(f"before it {self._in_words()}")
        elif fate is Fate.CRASH_AFTER:
            self._take_effect()
            connection.machine.crash("right after that")
        elif fate is Fate.REQUEST_LOST:
            self._narrate(f"its request is lost: it {self._in_words()}")
            connection.lose(self)
        elif fate is Fate.REPLY_LOST:
            self._take_effect()
            self._narrate(f"a reply to it is lost: it {self._in_words()}")
            connection.lose(self)
        else:
            self._take_effect()
            self._answer_in_a_while()
            self.world.after(self.world.random.uniform(0, 2 * REQUEST_S), self._arrive_again)

    def _arrive_again(self):
        self._narrate(f"a request comes for the second time: it {self._in_words()}")
        self._take_effect()

    def _take_effect(self):
        # A counter is never added to twice: the real clients see to that.
        if not (self._has_answer and self.name == "add"):
            connection = self.connection
            method = getattr(connection.server, self.name)
            try:
                answer = method(connection.machine, *self.args)
            except RendezvousRoundOverError as error:
                answer = error
            self._answer = answer
            self._has_answer = True
            narrator = self.world.narrator
            if narrator is not None:
                narrator.saw_request(connection.machine, self.name, self.args, answer)

    def _answer_in_a_while(self):
        world = self.world
        when = world.now + self.connection.latency_s()
        heappush(world.agenda, (when, world.next_turn(), self._reply, (self._answer,)))

    def _reply(self, answer):
        connection = self.connection
        if not connection.is_cut:
            if connection.finish(self):
                error = answer if isinstance(answer, RendezvousRoundOverError) else None
                connection.machine.do(self.hear, None if error else answer, error)
        elif connection.keeps_answers:
            connection.hold(functools.partial(self._reply, answer))
        else:
            connection.hold(self.send)

    def _in_words(self):
        narrator = self.world.narrator
        return narrator and (narrator.in_words(self.name, self.args) or "gives a sign of life")

    def _narrate(self, words):
        if self.world.narrator is not None:
            self.world.narrator.saw_event(self.connection.machine, words)


class LastWill(Request):
    """What the server is to write if this node does not come back; nobody waits for an answer.

    Args:
        connection: Its way; the will is kept with it.
        will: See ``Will``.
    """

    __slots__ = ()

    def __init__(self, connection, will):
        super().__init__(connection, "leave_will", (will,), None)

    def _take_effect(self):
        self.connection.keep_will(*self.args)
        self._has_answer = True

    def _reply(self, answer):
        pass

    def _answer_in_a_while(self):
        pass


class Wait(Request):
    """A request that is answered when all its keys are there.

    Args:
        connection: Its way.
        keys: The keys.
        hear: See ``Request``; the answer is None after the time-out.
    """

    __slots__ = ("is_known", "keys", "missing")

    def __init__(self, connection, keys, hear):
        super().__init__(connection, "wait", (keys,), hear)
        self.keys = keys
        self.missing = set()
        self.is_known = False

    def tell(self, values):
        """Answer: the last key has come."""
        self.world.after(self.connection.latency_s(), self._reply, values)

    def time_out(self):
        """Wait no longer."""
        connection = self.connection
        if connection.finish(self):
            self._is_given_up = True
            connection.end_wait(self)

    def send(self):
        """Set out for the server; a wait need not keep its place among the requests."""
        connection = self.connection
        if self._is_given_up:
            return
        if connection.is_cut:
            connection.hold_request(self)
        else:
            self.world.after(connection.latency_s(), self._arrive)

    def _take_effect(self):
        self.is_known = True
        narrator = self.world.narrator
        if narrator is not None:
            narrator.saw_request(self.connection.machine, "wait", self.args, None)
        self.connection.server.watch(self)

    def _answer_in_a_while(self):
        pass
