"""The way between a machine and the store, and all that can happen on it.

There are two kinds of stores, which fail in two manners. etcd's answers may get lost, and its
requests may arrive twice, since its clients repeat what was not answered; when it is away for a
moment, all wait, and when it is away for long, they give up. elrun's own store server neither loses
nor repeats anything and keeps the order of what is sent, also where a connection breaks and is made
anew. It carries out the will of a node that does not come back in time.
"""

from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.protocol.timing import RECONNECT_PATIENCE_S

from .request import REQUEST_S, LastWill, Request, Wait

CALL_S = 6.0
"""How long etcd's client goes on asking."""
ETCD_PATIENCE_S = (6.0, 8.0)
SERVER_PATIENCE_S = (5.0, 7.0)
"""How long the store may be out of reach until all is given up, by whatever call comes first."""
HAS_POWER_RATE = 0.7
"""The part of all dead machines whose kernels end their connections."""


class Connection:
    """One machine's way to a store.

    Args:
        server: Where the values lie.
        machine: Whose connection this is.
        faults: What goes wrong on the way.
    """

    def __init__(self, server, machine, faults):
        self.server = server
        self.machine = machine
        self.world = machine.world
        self.faults = faults
        self.latency_s = faults.latency_s
        self.fate_of = faults.fate_of
        self.is_cut = False
        self._cuts = 0
        self._end = None
        self.on_close = None
        self._held = []
        self._pending = {}

    def ask(self, name, args, hear):
        """Carry out a request to a store; ``hear`` takes its answer, or the error.

        Args:
            name: See ``steps.Request``.
            args: See ``steps.Request``.
            hear: See ``request.Request``.
        """
        if self._end is not None:
            self.machine.soon(hear, None, RendezvousConnectionError(self._end))
            return
        if name == "leave_will":
            self.leave_will(*args)
            self.machine.soon(hear, None, None)
            return
        if name == "wait":
            keys, timeout_s = args
            request = Wait(self, keys, hear)
            if timeout_s is not None:
                self.machine.after(timeout_s, request.time_out)
        else:
            request = Request(self, name, args, hear)
        self._pending[request] = None
        request.send()

    def send(self, request):
        """Send a request whose answer is waited for."""
        self._pending[request] = None
        request.send()

    def leave_will(self, will):
        """Leave a will with a store that takes none."""

    def end_wait(self, wait):
        """Answer a wait whose time is over."""
        wait.hear(None, None)

    @property
    def has_ended(self):
        """Whether it is broken for good."""
        return self._end is not None

    def close(self):
        self.break_off("was closed")
        if self.on_close is not None:
            self.on_close()

    def cut(self):
        """Let nothing pass until ``heal``; give up, if that is long in coming."""
        self.is_cut = True
        self.machine.is_steady = False
        self._cuts += 1
        patience_s = self.world.random.uniform(*self.patience_s) / self.machine.clock_rate
        self.world.after(patience_s, self._give_up, self._cuts)

    def heal(self):
        """Let requests and answers pass again."""
        self.is_cut = False
        held, self._held = self._held, []
        for send in held:
            self.world.after(self._heals_in_s(), send)

    def hold(self, send):
        """Keep something that can't pass until it can."""
        self._held.append(send)

    def hold_request(self, request):
        """Keep a request that can't pass."""
        self.hold(request.send)

    def restart(self):
        """Feel the server start anew."""

    def lose_machine(self):
        """Feel the machine die."""

    def end(self, how):
        """Break for good: whoever waits is told so, and whoever asks later."""
        self.machine.has_lost_store = True
        self.break_off(how)

    def break_off(self, how):
        """Break for good, for a reason that the node may be expected to cope with."""
        if self._end is None:
            self._end = f"the connection to the simulated store {how}"
            pending, self._pending = self._pending, {}
            for request in pending:
                request.fail(self._end)

    def finish(self, request):
        """Forget a request that has its answer; return whether one was waited for."""
        return self._pending.pop(request, self) is None

    def next_arrival(self):
        """Return when a request that is sent now will arrive."""
        return self.world.now + self.latency_s()

    def _give_up(self, cuts):
        if self.is_cut and cuts == self._cuts:
            self.end("was out of reach for too long")


class EtcdConnection(Connection):
    """A connection whose client asks again when it gets no answer."""

    keeps_answers = False
    patience_s = ETCD_PATIENCE_S

    def hold_request(self, request):
        super().hold_request(request)
        self.world.after(CALL_S / self.machine.clock_rate, self._expire, request, self._cuts)

    def restart(self):
        """Ask anew for what the server has forgotten: who waits for what."""
        for request in self._pending:
            if isinstance(request, Wait) and request.is_known:
                request.is_known = False
                self.hold_request(request)

    def end_wait(self, wait):
        """Look for a last time, as the real client does."""

        def hear(values, error):
            wait.hear(None if values is None or None in values else values, error)

        self.send(Request(self, "get", (wait.keys,), hear))

    def lose(self, request):
        """Ask again after a while, as no answer came."""
        machine = self.machine
        machine.is_steady = False
        machine.unheard_until = self.world.now + REQUEST_S / machine.clock_rate
        self.world.at(machine.unheard_until, request.send)

    def _expire(self, request, cuts):
        if self.is_cut and cuts == self._cuts and self.finish(request):
            self.machine.has_lost_store = True
            request.fail("the simulated store has not answered")

    def _heals_in_s(self):
        return self.world.random.random() * 0.5


class ServerConnection(Connection):
    """A connection that keeps the order of what is sent, and is made anew where it breaks."""

    keeps_answers = True
    patience_s = SERVER_PATIENCE_S

    def __init__(self, server, machine, faults):
        super().__init__(server, machine, faults)
        self._last_arrival = 0.0
        self._will = None

    def leave_will(self, will):
        """Say what the server writes if this node does not come back."""
        LastWill(self, will).send()

    def close(self):
        """Say goodbye: the will is not carried out."""
        self._will = None
        super().close()

    def keep_will(self, will):
        """Take a will that has arrived."""
        self._will = None if self.has_ended else will

    def next_arrival(self):
        arrival = self.world.now + self.latency_s()
        if arrival < self._last_arrival:
            return self._last_arrival
        self._last_arrival = arrival
        return arrival

    def restart(self):
        """Break for good: the data is gone."""
        self.end("was broken by the end of its server")

    def lose(self, request):
        """Break with it; come back after a while, and repeat what was not answered."""
        self.machine.is_steady = False
        self.hold(request.repeat)
        self.cut()
        self.world.after(RECONNECT_PATIENCE_S, self._miss, self._cuts)
        self.world.after(self.world.random.random(), self._come_back, self._cuts)

    def lose_machine(self):
        """End without a word: the kernel says so, unless the machine has no power."""
        if not self.is_cut and not self.has_ended and self.world.random.random() < HAS_POWER_RATE:
            self.world.after(self.faults.latency_s() + RECONNECT_PATIENCE_S, self._carry_out)

    def _miss(self, cuts):
        if self.is_cut and cuts == self._cuts:
            self._carry_out()

    def _carry_out(self):
        will, self._will = self._will, None
        site = self.machine.history.site
        if will is not None and site.is_reached(self.machine, self.server):
            self.server.carry_out(self.machine, will)

    def _come_back(self, cuts):
        is_reached = self.machine.history.site.is_reached(self.machine, self.server)
        if cuts == self._cuts and is_reached and not self.has_ended:
            self.heal()

    def _heals_in_s(self):
        return 0.0  # in the order in which all was sent
