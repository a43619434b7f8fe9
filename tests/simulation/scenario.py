"""Plays scenarios of rounds: the real machines of nodes, over a simulated store, in virtual time.

The commands are sentences. NODES is one name or several: ``a``, ``a and b``, ``a, b and c``.

    the run needs 2 to 3 nodes
    the store has 2 endpoints
    the store sees connections end
    NODES join[s]           [with 8 workers] [with --nnodes 1:2] [with --max-restarts 3]
                            [with --node-rank 1] [with secret s]
    a worker of a fails
    the workers of NODES succeed
    a aborts the run
    NODES leave[s]
    NODES is|are lost                 silent from then on
    NODES is|are killed               the store sees it, if it sees connections end
    NODES pause[s], NODES go[es] on
    a pauses|is lost before|after it closes the round | writes the roster | writes the places
                                     | writes the verdict
    3 s pass | the last call passes | the survivor's time passes | the join timeout passes
    the patience passes
    the store is lost

After a step each node prints what is new: that it waits and for how many, its place in a round, the
verdict, or how it ended.
"""

import re

from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.node.procedures import RoundMachine
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits
from elrun.rendezvous.protocol.roster import natural_key
from elrun.rendezvous.protocol.round import DOOR
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.signed import Secret
from simulator.connection import Connection
from simulator.node import Participant
from simulator.quiet import QUIET
from simulator.server import Server
from simulator.sites import enter
from simulator.world import World

MOMENT_S = 0.1
RUN = RunKeys("job")
TIMING = Timing()
DURATIONS = {
    "the last call passes": TIMING.last_call_s,
    "the survivor's time passes": TIMING.survivor_s,
    "the join timeout passes": TIMING.join_timeout_s,
    "the patience passes": TIMING.patience_s + 2 * TIMING.heartbeat_s,
}
OPTION = re.compile(r" with (?:(\d+) workers?|(--nnodes|--max-restarts|--node-rank|secret) (\S+))")


def moment_of(name, args):
    """Return which step of a sealer a request is, if it is one."""
    if name == "add" and args[1] == DOOR:
        return "closes the round"
    if name == "create" and args[0].endswith("/roster"):
        return "writes the roster"
    if name == "create" and args[0].endswith("/verdict"):
        return "writes the verdict"
    if name == "set" and any("/place/" in key for key in args[0]):
        return "writes the places"
    return None


class WatchedConnection(Connection):
    """A connection whose node may pause or be lost before or after a request."""

    patience_s = (TIMING.store_patience_s, TIMING.store_patience_s)

    def ask(self, name, args, hear):
        moment = moment_of(name, args)

        def reach_and_hear(value, error):
            self.machine.reach(f"after it {moment}")
            self.machine.do(hear, value, error)

        self.machine.reach(f"before it {moment}")
        self.machine.do(super().ask, name, args, reach_and_hear)

    def _heals_in_s(self):
        return 0.0


class WillingConnection(WatchedConnection):
    """A connection to a store that carries out a node's will when its connection ends."""

    will = None

    def leave_will(self, will):
        self.will = will

    def carry_out_will(self):
        if self.will is not None:
            self.server.carry_out(self.machine, self.will)


class Node(Participant):
    """One node of a scenario.

    Args:
        scenario: What it is part of.
        name: Its host name.
        limits: Its limits.
        options: The options of the command.
    """

    def __init__(self, scenario, name, limits, options):
        restarts = int(options.get("--max-restarts", 0))
        super().__init__(scenario.world, name, RUN, Limits(*limits, restarts), TIMING)
        self.scenario = scenario
        self.connections = []
        self.has_lost_store = False
        self.place = None
        self.is_joining = False
        self.workers = int(options.get("workers", 1))
        self.wish = int(options["--node-rank"]) if "--node-rank" in options else None
        self._secret = Secret(options["secret"].encode()) if "secret" in options else None
        self._wait = self._verdict = None
        self._choice = None

    def say(self, words):
        self.scenario.printed.append(f"{self.name}: {words}")

    def join(self):
        self.is_joining = True
        self._wait = None
        self.soon(self.ask, RoundMachine.next_round, (), self._hear_place)

    def reach(self, moment):
        """Do what a scenario has planned for this moment."""
        action = self.scenario.plans.pop((self.name, moment), None)
        if action == "pauses":
            self.pause()
        elif action is not None:
            self.crash()

    def ask_how_the_wait_stands(self):
        if self.is_joining and not self.is_paused:
            self.soon(self.ask, RoundMachine.describe_wait, (), self._hear_wait)

    def call(self, question, *args):
        """Ask the machine something that has no answer of interest."""

        def hear(_, error):
            if error is not None:
                self.say(f"fails: {error}")

        self.soon(self.ask, question, args, hear)

    def leave(self):
        def hear(*_):
            for connection in self.connections:
                connection.close()
            self.is_joining = False
            self.say("has left")

        self.soon(self.ask, RoundMachine.leave, (), hear)

    def crash(self):
        self.kill()
        for connection in self.connections:
            connection.break_off("ended with its node")

    def connect(self, forming, hear):
        number = self.scenario.first_store() if self._choice is None else self._choice
        if number is None:
            hear(None, RendezvousConnectionError("no endpoint has a store"))
            return
        connection = self.scenario.connection(self.scenario.servers[number], self, QUIET)
        self.connections.append(connection)
        at = number if len(self.scenario.servers) > 1 else None
        self._at = number
        enter(connection, forming, hear, at=at, run=RUN, secret=self._secret)

    def survey(self, hear):
        hear(
            [
                (number, self.scenario.connection(server, self, QUIET))
                for number, server in enumerate(self.scenario.servers)
                if server is not None and number != self._at
            ],
            None,
        )

    def choose(self, place):
        self._choice = place

    def wake(self):
        try:
            verdict = self.rounds.state.verdict_or_error()
        except RendezvousConnectionError as error:
            if self._verdict != str(error):
                self._verdict = str(error)
                self.say(f"loses the store: {error}")
            return
        if verdict is not None and verdict != self._verdict:
            self._verdict = verdict
            # Several nodes watch a lost one: which of them is the first to report it is chance.
            is_chance = verdict.by < 0 or verdict.kind is VerdictKind.NODE_LOST
            by = "" if is_chance else f" by group rank {verdict.by}"
            reason = f": {verdict.reason}" if verdict.reason else ""
            self.say(f"hears the verdict {verdict.kind.name}{by}{reason}")

    def _hear_place(self, answer, error):
        self.is_joining = False
        if error is not None:
            self.say(f"ends with {type(error).__name__}: {error}")
            return
        _, place = answer
        self.place, self._verdict = place, None
        last = place.first_rank + self.workers - 1
        ranks = (
            f"rank {last}" if last == place.first_rank else f"ranks {place.first_rank} to {last}"
        )
        self.say(
            f"is in round {place.round}: group rank {place.group_rank} of "
            f"{place.group_world_size}, {ranks} of {place.world_size}, "
            f"restart {place.restart_count}, workers meet at {place.workers_store.master_addr}"
        )

    def _hear_wait(self, wait, error):
        if self.is_joining and error is None and wait and wait != self._wait:
            self._wait = wait
            self.say(f"waits: {wait}")


class Scenario:
    """The nodes and stores of one scenario."""

    def __init__(self):
        self.world = World(1)
        self.servers = [Server(QUIET)]
        self.connection = WatchedConnection
        self.limits = (1, 1)
        self.nodes = {}
        self.plans = {}
        self.printed = []

    def execute(self, commands):
        """Play the commands of a step; return the lines that its nodes print, by node."""
        self.printed = []
        for command in commands:
            self._play(command)
        for node in self.nodes.values():
            node.ask_how_the_wait_stands()
        self._pass(MOMENT_S)
        return sorted(self.printed, key=lambda line: natural_key(line.partition(":")[0]))

    def first_store(self):
        """Return the number of the first endpoint that has a store."""
        return next((n for n, each in enumerate(self.servers) if each is not None), None)

    def _pass(self, seconds):
        self.world.run_until(self.world.now + seconds)

    def _play(self, command):
        for pattern, method in COMMANDS:
            match = re.fullmatch(pattern, command)
            if match:
                method(self, *match.groups())
                self._pass(MOMENT_S)
                return
        raise ValueError(f"no such command: {command}")

    def _named(self, names):
        return [self.nodes[name] for name in re.split(r", | and ", names)]

    def _set_limits(self, least, most):
        self.limits = int(least), int(most or least)

    def _set_endpoints(self, count):
        self.servers = [Server(QUIET) for _ in range(int(count))]

    def _see_ends(self):
        self.connection = WillingConnection

    def _join(self, names, options):
        found = {name or "workers": value or workers for workers, name, value in
                 OPTION.findall(options)}  # fmt: skip
        limits = self.limits
        if "--nnodes" in found:
            least, _, most = found["--nnodes"].partition(":")
            limits = int(least), int(most or least)
        for name in re.split(r", | and ", names):
            node = self.nodes.get(name)
            if node is None or node.is_dead:
                node = self.nodes[name] = Node(self, name, limits, found)
            node.join()
            self._pass(MOMENT_S)  # so the first name gets the first seat

    def _fail(self, name):
        node = self.nodes[name]
        rank = node.place.group_rank
        failed = Verdict(VerdictKind.WORKER_FAILED, rank, f"a worker of {name} failed")
        node.call(RoundMachine.conclude, failed)

    def _succeed(self, names):
        for node in self._named(names):
            node.call(RoundMachine.arrive)
            self._pass(MOMENT_S)

    def _abort(self, name):
        self.nodes[name].call(RoundMachine.set_closed)

    def _leave(self, names):
        for node in self._named(names):
            node.leave()

    def _lose(self, names):
        for node in self._named(names):
            node.crash()

    def _kill(self, names):
        for node in self._named(names):
            node.crash()
            for connection in node.connections:
                if isinstance(connection, WillingConnection):
                    connection.carry_out_will()

    def _pause(self, names):
        for node in self._named(names):
            node.pause()

    def _go_on(self, names):
        for node in self._named(names):
            node.go_on()

    def _plan(self, name, action, moment):
        self.plans[name, moment] = action

    def _lose_store(self):
        number = self.first_store()
        lost, self.servers[number] = self.servers[number], None
        for node in self.nodes.values():
            for connection in node.connections:
                if connection.server is lost:
                    connection.break_off("was lost")


def passing(seconds):
    """Return a command that lets time pass."""
    return lambda scenario: scenario._pass(seconds)


NAMES = r"([a-z]\d*(?:(?:, | and )[a-z]\d*)*)"
COMMANDS = (
    (r"the run needs (\d+)(?: to (\d+))? nodes?", Scenario._set_limits),
    (r"the store has (\d+) endpoints", Scenario._set_endpoints),
    (rf"{NAMES} joins?((?: with .*)?)", Scenario._join),
    (r"a worker of (\w+) fails", Scenario._fail),
    (rf"the workers of {NAMES} succeed", Scenario._succeed),
    (r"(\w+) aborts the run", Scenario._abort),
    (rf"{NAMES} leaves?", Scenario._leave),
    (rf"{NAMES} (?:is|are) lost", Scenario._lose),
    (rf"{NAMES} (?:is|are) killed", Scenario._kill),
    (r"the store sees connections end", Scenario._see_ends),
    (rf"{NAMES} pauses?", Scenario._pause),
    (rf"{NAMES} go(?:es)? on", Scenario._go_on),
    (r"(\w+) (pauses|is lost) ((?:before|after) it .*)", Scenario._plan),
    (r"the store is lost", Scenario._lose_store),
    (r"(\d+(?:\.\d+)?) s pass", lambda scenario, seconds: scenario._pass(float(seconds))),
    *((re.escape(sentence), passing(seconds)) for sentence, seconds in DURATIONS.items()),
)
