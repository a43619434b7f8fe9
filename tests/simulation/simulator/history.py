"""One history, from its seed: first everything may go wrong, then all must come right."""

import contextlib
import functools
import signal
import traceback
from dataclasses import dataclass

from elrun.agent.workers.worker import WorkerState
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT

from .connection import EtcdConnection, ServerConnection
from .endpoints import Endpoints
from .facts import Violation
from .faults import Faults, draw_plan
from .node import Node
from .server import Server
from .sites import OneStore
from .trouble import Trouble
from .world import World

FEW_ROUNDS = 2
SETTLING_S = 120
"""Bound on the time in which the living reach a round, or give up."""
ENDING_S = 60
"""Bound on the time in which they end, once their workers have succeeded."""
MOST_CPU_S = 60
"""Bound on this process's own time for a history, some thousand times of what the longest takes."""


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


@contextlib.contextmanager
def _bounded_cpu():
    """Break off what goes round in circles and lets no virtual time pass."""

    def break_off(*_):
        raise Violation(f"a history that is not over after {MOST_CPU_S:g} s of CPU goes in circles")

    before = signal.signal(signal.SIGVTALRM, break_off)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class History:
    """Makes one history.

    Args:
        seed: What it follows from.
        narrator: Told of what happens, in words; None for nobody.
        server: Makes the store.
        connections: Make the ways to it, in etcd's and in the store server's manner.
        rounds_kept: How many rounds keep their keys; None: as many as in truth, or few of them in
            every second history, as few histories have many rounds.
    """

    def __init__(
        self,
        seed,
        narrator=None,
        server=Server,
        connections=(EtcdConnection, ServerConnection),
        rounds_kept=None,
    ):
        self.seed = seed
        self.world = World(seed)
        self.world.narrator = narrator
        self.plan = draw_plan(self.world.random, seed)
        if narrator is not None:
            narrator.begin(self.world, self.plan)
        self.nodes = []
        self.faults = Faults(self.world.random, self.plan)
        make_site = OneStore if self.plan.endpoints == 1 else Endpoints
        if rounds_kept is None:
            rounds_kept = FEW_ROUNDS if seed % 2 else ROUNDS_KEPT
        make_server = functools.partial(server, rounds_kept=rounds_kept)
        self.site = make_site(self, make_server, connections[self.plan.is_server])
        self.trouble = Trouble(self)
        self.is_calm = False
        self.calm_since = 0.0
        self._may_end = False

    def run(self):
        """Let it happen; return how it went."""
        violation = self._run()
        return Outcome(self.seed, violation, self.world.steps, self.world.now, self._count_rounds())

    def _count_rounds(self):
        return sum(bool(each.members) for witness in self.site.witnesses for each in witness.rounds)

    def _run(self):
        try:
            with _bounded_cpu():
                self._let_things_go_wrong()
                self._let_them_settle()
                self._let_them_end()
        except Violation as error:
            return str(error)
        except Exception as error:
            if self.world.narrator is not None:
                traceback.print_exception(error)
            return f"a node dies of {error!r}"
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
        self.calm_since = self.world.now
        self.faults.end()
        self.trouble.end()
        if not self.has_ended and self.world.random.random() < 0.7:
            while len(self.living) < self.plan.limits.min_nodes or self._are_homeless():
                self.start_node()
        # Those who were out of sight may be thought lost, until they have been heard for a while.
        patience_s = self.plan.timing.patience_s
        heard_again_at = max([node.unheard_until for node in self.living], default=0.0)
        self.world.run_until(max(self.world.now + 3 * patience_s, heard_again_at + 2 * patience_s))
        for witness in self.site.witnesses:
            witness.expect_the_truth()
        self.world.run_until(self.world.now + SETTLING_S, self.site.is_settled)
        if not self.site.is_settled():
            raise Violation(f"no round and no end within {SETTLING_S} s: {self._standing()}")

    def _are_homeless(self):
        """Return whether nobody who lives could host the store of a run that moves."""
        return self.plan.endpoints > 1 and all(node.home is None for node in self.living)

    def _let_them_end(self):
        self.tell(None, "from now on all workers succeed")
        self._may_end = True
        is_split, rounds = self.site.is_split, self._count_rounds()
        for node in self.living:
            self._finish(node)
        self.world.run_until(self.world.now + ENDING_S, lambda: not self.living)
        if self.living:
            raise Violation(f"not everybody ended within {ENDING_S} s: {self._standing()}")
        if self._count_rounds() != rounds and not is_split:
            raise Violation("nothing was wrong with the last round, and another one followed")

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
    def calm_s(self):
        """For how long nothing has gone wrong any more."""
        return self.world.now - self.calm_since if self.is_calm else 0.0

    @property
    def has_ended(self):
        """Whether some store says that no round follows."""
        return any(witness.has_ended for witness in self.site.witnesses)

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
