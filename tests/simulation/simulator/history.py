"""One history, from its seed: first everything may go wrong, then all must come right."""

import traceback
from dataclasses import dataclass

from elrun.agent.worker import WorkerState
from elrun.rendezvous.handler import RendezvousConnectionError
from elrun.rendezvous.signing import Secret

from .connection import EtcdConnection, TcpConnection
from .facts import Violation
from .faults import Faults, draw_plan
from .node import Node
from .server import Server
from .stand_ins import simulated_machines
from .trouble import Trouble
from .witness import Witness
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
        self.plan = draw_plan(self.world.random)
        self.secret = Secret(b"open sesame") if self.plan.has_secret else None
        if narrator is not None:
            narrator.begin(self.world, self.plan, self.secret)
        self.world.switch_rate = self.plan.switch_rate
        self.witness = Witness(self.plan.limits, self.secret)
        self.server = server(self.witness)
        self.nodes = []
        self.trouble = Trouble(self)
        self._faults = Faults(self.world.random, self.plan)
        self._make_connection = connections[self.plan.is_tcp]
        self.is_calm = False
        self._is_served = True
        self._may_end = False

    def run(self):
        """Let it happen; return how it went."""
        with simulated_machines(self.world):
            violation = self._run()
            for node in self.nodes:
                node.kill()
        rounds = sum(1 for each in self.witness.rounds if each.members)
        return Outcome(self.seed, violation, self.world.steps, self.world.now, rounds)

    def _run(self):
        try:
            self._let_things_go_wrong()
            self._let_them_settle()
            self._let_them_end()
        except Violation as error:
            return str(error)
        except Exception as error:
            if self.world.narrator is not None:
                traceback.print_exception(error)
            return f"a thread dies of {error!r}"
        return ""

    def _let_things_go_wrong(self):
        for _ in range(self.plan.nodes):
            self.world.after(self.world.random.uniform(0, 2), self.start_node)
        for when, mishap in self.plan.mishaps:
            self.world.at(when, self.trouble.befall, mishap)
        self.world.run_until(self.plan.chaos_s)

    def _let_them_settle(self):
        self.tell(None, "from now on nothing goes wrong")
        self.is_calm = True
        self._faults.end()
        self.trouble.end()
        if not self.witness.has_ended and self.world.random.random() < 0.7:
            while len(self.living) < self.plan.limits.min_nodes:
                self.start_node()
        # Those who were out of sight may be thought lost, until they have been heard for a while.
        self.world.run_until(self.world.now + 3 * self.plan.timing.patience_s)
        self.witness.expect_the_truth()
        self.world.run_until(self.world.now + SETTLING_S, self._is_settled)
        if not self._is_settled():
            raise Violation(f"no round and no end within {SETTLING_S} s: {self._standing()}")

    def _is_settled(self):
        """Return whether all that live are in a round or wait beside it, or none is left."""
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
            if rank in latest.marked and member.is_dead
        ]
        if len(running) + len(gone) != len(latest.members):
            return False
        spares = set(living) - set(running)
        if not spares <= set(self.witness.round(latest.number + 1).sitting.values()):
            return False
        wanted = min(len(living), self.plan.limits.max_nodes)
        return len(running) == wanted or bool(latest.marked)

    def _let_them_end(self):
        self.tell(None, "from now on all workers succeed")
        self._may_end = True
        last = self.witness.latest
        for node in self.living:
            self._finish(node)
        self.world.run_until(self.world.now + ENDING_S, lambda: not self.living)
        if self.living:
            raise Violation(f"not everybody ended within {ENDING_S} s: {self._standing()}")
        if self.witness.latest is not last:
            raise Violation(f"nothing was wrong with round {last.number}, and another one followed")

    def _finish(self, node):
        agent = node.agent
        if agent is not None:
            delay_s = self.world.random.random()
            self.world.after(delay_s, agent.end_workers, agent.attempt, WorkerState.SUCCEEDED)

    def _standing(self):
        return ", ".join(
            f"{node} in round {node.place.round}" if node.place else f"{node} waits"
            for node in self.living
        )

    # What the nodes ask, and what is asked of them.

    @property
    def living(self):
        """The nodes whose agents have not ended."""
        return [node for node in self.nodes if not node.is_dead]

    def start_node(self):
        """Start an agent on a machine of its own."""
        rate = 1.0 if self.is_calm else self.world.random.uniform(*self.plan.clock_rates)
        node = Node(self, f"node{len(self.nodes)}", rate)
        self.nodes.append(node)
        node.boot()

    def connect(self, node):
        """Return a way to the store for a node."""
        if not self._is_served:
            node.has_lost_store = True
            raise RendezvousConnectionError("nobody serves the simulated store any more")
        return self._make_connection(self.server, node, self._faults)

    def is_host(self, node):
        """Return whether the store lives on this node's machine."""
        return self.plan.has_host and node is self.nodes[0]

    def saw_end(self, node):
        """Note that a machine is dead, and the store with it if it lived there."""
        if self.is_host(node):
            self._is_served = False
            for other in self.living:
                # It stays for those who take part or wait; who comes after the end, comes too late.
                is_told = self.witness.has_ended and self.witness.has_sat(other)
                other.has_lost_store = not (self.is_calm and is_told)
                for connection in other.connections:
                    connection.break_off("was broken by the end of its server")

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
