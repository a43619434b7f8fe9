"""What befalls the nodes, the way to the store and the store, when the plan says so."""

from elrun.agent.workers.worker import WorkerState

from .faults import Mishap

PAUSES_S = (0.5, 2, 8)
OUTAGES_S = (0.5, 3, 7, 12)
PARTINGS_S = (3, 7, 12, 25)
"""Some shorter than what the clients of the store bear, some longer, and one about as long."""


class Trouble:
    """Makes mishaps happen in a history.

    Args:
        history: The history.
    """

    def __init__(self, history):
        self._history = history
        self._world = history.world
        self._random = history.world.random
        self._is_over = False
        self._deeds = {
            Mishap.CRASH: self._crash_one,
            Mishap.CRASH_MEMBERS: self._crash_members,
            Mishap.PAUSE: self._pause_one,
            Mishap.CUT: self._cut_one,
            Mishap.STORE_AWAY: self._take_store_away,
            Mishap.CRASH_HOST: self._crash_host,
            Mishap.PAUSE_HOST: self._pause_host,
            Mishap.PART: self._part,
            Mishap.LEAVE: self._send_one_away,
            Mishap.NEWCOMER: history.start_node,
            Mishap.FAIL: lambda: self._end_workers(WorkerState.FAILED),
            Mishap.FINISH: lambda: self._end_workers(WorkerState.SUCCEEDED),
        }

    def befall(self, mishap):
        """Let a mishap happen to whom it may."""
        if not self._is_over:
            self._deeds[mishap]()

    def end(self):
        """Let all that stands still, or is cut off, be well again, and nothing happen any more."""
        self._is_over = True
        for node in self._history.living:
            self._go_on(node)
            self._heal(node)
            node.set_clock_rate(1.0)

    def peers_feel(self, lost):
        """Let the workers of a dead node's peers fail, as those of a collective do."""
        if self._is_over or self._random.random() < 0.5:
            return
        for node in self._running():
            self._end_in(self._random.uniform(0, 4), node, WorkerState.FAILED)

    def _one_living(self):
        living = self._history.living
        return [self._random.choice(living)] if living else []

    def _running(self):
        return [node for node in self._history.living if node.place is not None]

    def _crash_one(self):
        for node in self._one_living():
            node.crash()

    def _crash_members(self):
        for node in self._running():
            node.crash()

    def _send_one_away(self):
        for node in self._one_living():
            node.leave()

    def _end_workers(self, state):
        running = self._running()
        if running and self._random.random() < 0.7:
            running = [self._random.choice(running)]
        for node in running:
            self._end_in(self._random.random(), node, state)

    def _end_in(self, delay_s, node, state):
        self._world.after(delay_s, self._end, node, node.agent.attempt, state)

    def _end(self, node, attempt, state):
        if not self._is_over:
            node.agent.end_workers(attempt, state)

    def _hosts(self):
        return [node for node in self._history.living if self._history.site.is_host(node)]

    def _crash_host(self):
        for node in self._hosts():
            node.crash()

    def _pause_host(self):
        for node in self._hosts():
            self._pause(node)

    def _part(self):
        nodes = list(self._history.nodes)
        self._random.shuffle(nodes)
        count = self._random.randint(1, max(1, len(nodes) - 1))
        some, others = nodes[:count], nodes[count:]
        seconds = self._random.choice(PARTINGS_S)
        self._history.tell(None, f"no cable between {some} and {others} for {seconds:g} s")
        self._history.site.cut_between(some, others)
        self._world.after(seconds, self._mend_between, some, others)

    def _mend_between(self, some, others):
        if not self._is_over:
            self._history.tell(None, f"the cables between {some} and {others} are mended")
            self._history.site.mend_between(some, others)

    def _pause_one(self):
        for node in self._one_living():
            self._pause(node)

    def _pause(self, node):
        seconds = self._random.choice(PAUSES_S)
        self._history.tell(node, f"stands still for {seconds:g} s")
        node.pause()
        self._world.after(seconds, self._go_on, node)

    def _go_on(self, node):
        if node.is_paused and not node.is_dead:
            self._history.tell(node, "goes on")
            node.go_on()

    def _cut_one(self):
        for node in self._one_living():
            seconds = self._random.choice(OUTAGES_S)
            self._history.tell(node, f"can't reach the store for {seconds:g} s")
            self._cut(node, seconds)

    def _take_store_away(self):
        seconds = self._random.choice(OUTAGES_S)
        self._history.tell(None, f"the store is away for {seconds:g} s, and starts anew")
        self._history.site.take_away()
        for node in self._history.living:
            self._world.after(seconds, self._heal, node)

    def _cut(self, node, seconds):
        self._history.site.cut(node)
        self._world.after(seconds, self._heal, node)

    def _heal(self, node):
        self._history.site.heal(node)
