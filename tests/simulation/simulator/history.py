"""One history, from its seed: first everything may go wrong, then all must come right."""

from dataclasses import dataclass

from elrun.agent.worker import WorkerState

from .connection import EtcdConnection, TcpConnection
from .faults import Faults, Mishap, draw_plan
from .node import Node
from .server import Server
from .stand_ins import simulated_machines
from .witness import Violation, Witness
from .world import World

SETTLING_S = 120
"""Bound on the time in which the living reach a round, or give up."""
ENDING_S = 60
"""Bound on the time in which they end, once their workers have succeeded."""


@dataclass(frozen=True)
class Outcome:
    """How a history went.

    Args:
        seed: Its seed.
        violation: What must never happen, and did; empty if all is well.
        steps: How many things happened.
        virtual_s: How long it was for those in it.
        rounds: How many rounds were sealed with members.
    """

    seed: int
    violation: str
    steps: int
    virtual_s: float
    rounds: int


class History:
    """Makes one history.

    Args:
        seed: What it follows from.
        narrator: Told of what happens, in words; None for nobody.
        server: Makes the store.
        connections: Make the ways to it, in etcd's and in TCPStore's manner.
    """

    def __init__(
        self, seed, narrator=None, server=Server, connections=(EtcdConnection, TcpConnection)
    ):
        self.seed = seed
        self.world = World(seed)
        self.world.narrator = narrator
        if narrator is not None:
            narrator.follow(self.world)
        self.plan = draw_plan(self.world.random)
        self.faults = Faults(self.world.random, self.plan)
        self.witness = Witness(self.plan.limits)
        self.nodes = []
        self._server = server(self.witness)
        self._make_connection = connections[self.plan.is_tcp]
        self._is_calm = False
        self._may_end = False

    def run(self):
        """Let it happen; return how it went."""
        violation = ""
        with simulated_machines(self.world):
            try:
                self._let_things_go_wrong()
                self._let_them_settle()
                self._let_them_end()
            except Violation as error:
                violation = str(error)
            except Exception as error:
                violation = f"a thread dies of {error!r}"
                violation_source = error
                self.error = violation_source
            for node in self.nodes:
                node.kill()
        rounds = sum(1 for each in self.witness.rounds if each.members)
        return Outcome(self.seed, violation, self.world.steps, self.world.now, rounds)

    # What goes wrong.

    def _let_things_go_wrong(self):
        for _ in range(self.plan.nodes):
            self.world.after(self.world.random.uniform(0, 2), self._start_node)
        for when, mishap in self.plan.mishaps:
            self.world.at(when, self._befall, mishap)
        self.world.run_until(self.plan.chaos_s)

    def _befall(self, mishap):
        if self._is_calm:
            return
        random = self.world.random
        living = self.living
        if mishap is Mishap.NEWCOMER:
            self._start_node()
        elif mishap is Mishap.STORE_AWAY:
            self._take_store_away(random.choice((0.5, 3, 7, 12)))
        elif mishap is Mishap.CRASH_MEMBERS:
            for node in living:
                if node.place is not None:
                    node.crash()
        elif living:
            node = random.choice(living)
            match mishap:
                case Mishap.CRASH:
                    node.crash()
                case Mishap.PAUSE:
                    self._pause(node, random.choice((0.5, 2, 8)))
                case Mishap.CUT:
                    self._cut(node, random.choice((0.5, 3, 7, 12)))
                case Mishap.LEAVE:
                    node.leave()
                case Mishap.FAIL | Mishap.FINISH:
                    self._end_workers(mishap)

    def _end_workers(self, mishap):
        running = [node for node in self.living if node.place is not None]
        if not running:
            return
        random = self.world.random
        state = WorkerState.FAILED if mishap is Mishap.FAIL else WorkerState.SUCCEEDED
        chosen = running if random.random() < 0.3 else [random.choice(running)]
        for node in chosen:
            delay_s = random.random()
            self.world.after(delay_s, node.agent.end_workers, node.agent.attempt, state)

    def peers_feel(self, lost):
        """Let the workers of a dead node's peers fail, as those of a collective do."""
        random = self.world.random
        if self._is_calm or random.random() < 0.5:
            return
        for node in self.living:
            if node.place is not None:
                delay_s = random.uniform(0, 4)
                attempt = node.agent.attempt
                self.world.after(delay_s, node.agent.end_workers, attempt, WorkerState.FAILED)

    def _pause(self, node, seconds):
        self.tell(node, f"stands still for {seconds:g} s")
        node.pause()
        self.world.after(seconds, self._end_pause, node)

    def _end_pause(self, node):
        if node.is_paused and not node.is_dead:
            self.tell(node, "goes on")
            node.go_on()

    def _cut(self, node, seconds):
        self.tell(node, f"can't reach the store for {seconds:g} s")
        for connection in node.connections:
            connection.cut()
        self.world.after(seconds, self._heal, node)

    def _heal(self, node):
        if not node.is_dead and any(connection.is_cut for connection in node.connections):
            self.tell(node, "can reach the store again")
            for connection in node.connections:
                connection.heal()

    def _take_store_away(self, seconds):
        self.tell(None, f"the store is away for {seconds:g} s")
        self._server.forget_watches()
        for node in self.living:
            for connection in node.connections:
                connection.cut()
                connection.restart()
            self.world.after(seconds, self._heal, node)

    # What the nodes ask.

    def connect(self, node):
        """Return a way to the store for a node."""
        return self._make_connection(self._server, node, self.faults)

    def stop_s(self):
        """Return how long workers take to stop."""
        return self.world.random.choice((0, 0.1, 3))

    def saw_start(self, node):
        """Note that a node's workers have started; let them succeed, if it is time."""
        if self._may_end:
            self._finish(node)

    def tell(self, node, words):
        """Tell the narrator, if there is one."""
        if self.world.narrator is not None:
            self.world.narrator.saw_event(node, words)

    @property
    def living(self):
        """The nodes whose agents have not ended."""
        return [node for node in self.nodes if not node.is_dead]

    # How all comes right.

    def _let_them_settle(self):
        self.tell(None, "from now on nothing goes wrong")
        self._is_calm = True
        self.faults.calm_down()
        for node in self.living:
            self._end_pause(node)
            self._heal(node)
            node.set_clock_rate(1.0)
        if not self.witness.has_ended and self.world.random.random() < 0.7:
            while len(self.living) < self.plan.limits.min_nodes:
                self._start_node()
        self.world.run_until(self.world.now + SETTLING_S, self._is_settled)
        if not self._is_settled():
            raise Violation(f"no round and no end within {SETTLING_S} s: {self._standing()}")

    def _is_settled(self):
        """Return whether all living nodes are in a round, or wait beside a full one, or none."""
        living = self.living
        if not living:
            return True
        latest = self.witness.latest
        if latest is None or latest.verdict is not None:
            return False
        running = [node for node in living if node.place and node.place.round == latest.number]
        # A node that has finished may go: the others can do without it.
        gone = [
            member
            for rank, member in enumerate(latest.members)
            if rank in latest.finished and member.is_dead
        ]
        if len(running) + len(gone) != len(latest.members):
            return False
        wanted = min(len(living), self.plan.limits.max_nodes)
        return len(running) == wanted or bool(latest.finished)

    def _let_them_end(self):
        self.tell(None, "from now on all workers succeed")
        self._may_end = True
        for node in self.living:
            self._finish(node)
        self.world.run_until(self.world.now + ENDING_S, lambda: not self.living)
        if self.living:
            raise Violation(f"not everybody ended within {ENDING_S} s: {self._standing()}")

    def _finish(self, node):
        if node.agent is not None:
            delay_s = self.world.random.random()
            attempt = node.agent.attempt
            self.world.after(delay_s, node.agent.end_workers, attempt, WorkerState.SUCCEEDED)

    def _standing(self):
        return ", ".join(
            f"{node} in round {node.place.round}" if node.place else f"{node} waits"
            for node in self.living
        )

    def _start_node(self):
        name = f"node{len(self.nodes)}"
        node = Node(self, name, self.world.random.uniform(*self.plan.clock_rates))
        self.nodes.append(node)
        node.boot()
