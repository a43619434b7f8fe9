"""What befalls the nodes, the way to the store and the store, when the plan says so."""

from elrun.agent.worker import WorkerState

from .faults import Mishap

PAUSES_S = (0.5, 2, 8)
OUTAGES_S = (0.5, 3, 7, 12)
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

    def _pause_one(self):
        for node in self._one_living():
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
        self._history.server.forget_watches()
        for node in self._history.living:
            self._cut(node, seconds)
            for connection in node.connections:
                connection.restart()

    def _cut(self, node, seconds):
        for connection in node.connections:
            connection.cut()
        self._world.after(seconds, self._heal, node)

    def _heal(self, node):
        if not node.is_dead and any(connection.is_cut for connection in node.connections):
            self._history.tell(node, "can reach the store again")
            for connection in node.connections:
                connection.heal()
