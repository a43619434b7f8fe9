"""What goes wrong in a history: a plan that follows from its seed.

Each history has some kinds of faults and not others. Where everything goes wrong at once, nothing
gets far enough to meet the rarer accidents.
"""

import enum
from dataclasses import dataclass

from elrun.rendezvous.protocol.records import Limits
from elrun.rendezvous.protocol.timing import Timing

DELAY_S = 2.0


class Fate(enum.Enum):
    """What can happen to a request."""

    CRASH_BEFORE = "the machine dies before it takes effect"
    CRASH_AFTER = "the machine dies after it took effect"
    REQUEST_LOST = "it never arrives"
    REPLY_LOST = "it takes effect, and the answer never arrives"
    TWICE = "it takes effect, and once more some time later"


class Mishap(enum.Enum):
    """What can happen to the machines, the way to the store and the store itself."""

    CRASH = "a machine dies"
    CRASH_MEMBERS = "all machines of the running round die at once"
    PAUSE = "a machine stands still"
    CUT = "a machine can't reach the store"
    STORE_AWAY = "nobody can reach the store, which starts anew"
    CRASH_HOST = "the machine with the store dies"
    PAUSE_HOST = "the machine with the store stands still"
    PART = "the network falls into two parts"
    LEAVE = "somebody stops an agent"
    NEWCOMER = "an agent is started"
    FAIL = "a worker fails"
    FINISH = "the workers of a node succeed"


ELSEWHERE = (Mishap.CRASH_HOST, Mishap.PAUSE_HOST, Mishap.PART)
"""What happens where the store may be at several endpoints."""


@dataclass(frozen=True)
class Plan:
    """What a history is made of.

    Args:
        endpoints: At how many places the store may be.
        is_server: Whether the store fails in the store server's manner, not in etcd's.
        has_host: Whether the store lives on the first node, and dies with it.
        limits: Fewest and most nodes.
        nodes: How many start.
        max_restarts: Restarts that the job may spend.
        timing: How long the nodes wait for what.
        chaos_s: Seconds after which nothing goes wrong any more.
        mishaps: What happens when.
        fates: What may happen to requests.
        fate_rate: The part of all requests that something happens to.
        latency_s: How long a message travels, on the average.
        delay_rate: The part of all messages that travel for up to ``DELAY_S``.
        clock_rates: Lowest and highest speed of the clocks.
    """

    endpoints: int
    is_server: bool
    has_host: bool
    limits: Limits
    nodes: int
    max_restarts: int
    timing: Timing
    chaos_s: float
    mishaps: tuple[tuple[float, Mishap], ...]
    fates: tuple[Fate, ...]
    fate_rate: float
    latency_s: float
    delay_rate: float
    clock_rates: tuple[float, float]

    @property
    def keeps_time(self):
        """Whether no clock and no message is so late that a node seems to be silent."""
        return self.clock_rates == (1, 1) and not self.delay_rate and self.latency_s < 0.1


def draw_plan(random, seed):
    """Return the plan that chance has for a history; every fifth has several endpoints."""
    endpoints = random.choice((2, 2, 3)) if seed % 5 == 4 else 1
    max_nodes = random.choice((1, 2, 2, 3, 3, 3, 4, 4, 5))
    min_nodes = random.randint(1, max_nodes)
    is_server = endpoints > 1 or random.random() < 0.3
    chaos_s = random.uniform(4, 20 if endpoints == 1 else 60)
    none_of = (Mishap.STORE_AWAY,) if endpoints > 1 else ELSEWHERE
    kinds = _some_of(random, [kind for kind in Mishap if kind not in none_of])
    mishaps = [
        (random.uniform(0, chaos_s), random.choice(kinds))
        for _ in range(random.randint(0, 7 if endpoints == 1 else 14))
    ]
    return Plan(
        endpoints=endpoints,
        is_server=is_server,
        has_host=endpoints == 1 and is_server and random.random() < 0.5,
        limits=Limits(min_nodes, max_nodes),
        nodes=random.randint(min_nodes, max_nodes + random.choice((0, 0, 1, 2))),
        max_restarts=random.randint(0, 4),
        timing=Timing(
            join_timeout_s=20 if endpoints == 1 else 45,
            last_call_s=random.choice((0.2, 1, 2)),
            survivor_s=random.choice((1, 5)),
            deputy_s=random.choice((0.3, 1)),
            straggler_s=random.choice((0.2, 1)),
            leave_s=2,
            heartbeat_s=1,
            patience_s=random.choice((2, 3)),
        ),
        chaos_s=chaos_s,
        mishaps=tuple(sorted(mishaps, key=lambda mishap: mishap[0])),
        fates=_some_of(random, [fate for fate in Fate if not (is_server and fate is Fate.TWICE)]),
        fate_rate=random.choice((0, 0.002, 0.01, 0.03) if is_server else (0, 0.005, 0.03)),
        latency_s=random.choice((0.001, 0.01, 0.1)),
        delay_rate=random.choice((0, 0, 0.02)),
        clock_rates=random.choice(((1, 1), (1, 1), (0.9, 1.1), (0.5, 2))),
    )


class Faults:
    """What the way to the store asks the plan, request by request.

    Args:
        random: Chance.
        plan: The plan.
    """

    def __init__(self, random, plan):
        self._random = random.random
        self._choice = random.choice
        self._plan = plan
        self._fate_rate = plan.fate_rate
        self._delay_rate = plan.delay_rate
        self._double_latency_s = 2 * plan.latency_s

    def latency_s(self):
        """Return how long a message travels."""
        chance = self._random()
        if chance < self._delay_rate:
            return chance / self._delay_rate * DELAY_S
        return chance * self._double_latency_s

    def fate_of(self, _request):
        """Return what happens to a request; None for most."""
        return None if self._random() >= self._fate_rate else self._choice(self._plan.fates)

    def end(self):
        """Let nothing go wrong any more."""
        self._fate_rate = self._delay_rate = 0.0


def _some_of(random, kinds):
    """Return some of these, at least one."""
    every = tuple(kinds)
    return tuple(kind for kind in every if random.random() < 0.5) or (random.choice(every),)
