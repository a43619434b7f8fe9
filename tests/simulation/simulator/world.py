"""Virtual time, and the machines that live in it."""

import itertools
import random
from heapq import heappop, heappush

_STEPS_A_LOOK = 8
"""Whether a history has come where it should is looked at after so many steps."""


class World:
    """An agenda: what happens next, and when. Nothing else makes time pass.

    Args:
        seed: What all chance in this world follows from.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.running = None
        self.narrator = None
        self.agenda = []
        """What is to come: when, its turn among what comes at the same moment, an action."""
        self.next_turn = itertools.count().__next__

    def at(self, when, action, *args):
        """Let something happen; what comes first goes first."""
        heappush(self.agenda, (when, self.next_turn(), action, args))

    def after(self, delay_s, action, *args):
        """Let something happen some seconds from now."""
        heappush(self.agenda, (self.now + delay_s, self.next_turn(), action, args))

    def soon(self, action, *args):
        """Let something happen within a moment, of a length that chance decides."""
        when = self.now + self.random.random() * 1e-4
        heappush(self.agenda, (when, self.next_turn(), action, args))

    def run_until(self, end, is_over=lambda: False):
        """Let time pass up to a moment, or until something is the case."""
        agenda, steps = self.agenda, 0
        while agenda and agenda[0][0] <= end and (steps % _STEPS_A_LOOK or not is_over()):
            self.now, _, action, args = heappop(agenda)
            steps += 1
            action(*args)
        self.steps += steps
        if not is_over():
            self.now = max(self.now, end)


class Machine:
    """What one node runs on: a clock of its own, and a processor that may stand still or die.

    Args:
        world: The world.
        name: The host name.
        clock_rate: How many seconds the clock counts in one.
        is_steady: Whether the others have no reason to think the machine dead.
    """

    def __init__(self, world, name, clock_rate=1.0, *, is_steady=True):
        self.world = world
        self.name = name
        self.clock_rate = clock_rate
        self.is_dead = False
        self.is_steady = is_steady
        self.is_paused = False
        self.unheard_until = 0.0
        """When the latest request of this machine that got lost is sent again."""
        self._missed = []
        # Two clocks have nothing in common, so neither may their values.
        self._clock_read = world.random.uniform(0, 1e6)
        self._clock_read_at = world.now

    def __repr__(self):
        return self.name

    def clock(self):
        """Return the time, by this machine's monotonic clock."""
        return self._clock_read + (self.world.now - self._clock_read_at) * self.clock_rate

    def set_clock_rate(self, rate):
        """Let the clock go faster or slower from now on."""
        self._clock_read, self._clock_read_at = self.clock(), self.world.now
        self.clock_rate = rate

    def do(self, action, *args):
        """Let this machine do something now, or when it goes on; a dead one does nothing."""
        if self.is_dead:
            return
        if self.is_paused:
            self._missed.append((action, args))
            return
        self.world.running = self
        action(*args)

    def after(self, seconds, action, *args):
        """Let this machine do something after some seconds of its clock."""
        world = self.world
        when = world.now + (seconds / self.clock_rate if seconds > 0 else 0.0)
        heappush(world.agenda, (when, world.next_turn(), self.do, (action, *args)))

    def soon(self, action, *args):
        """Let this machine do something within a moment."""
        self.world.soon(self.do, action, *args)

    def pause(self):
        """Do nothing from now on; what comes meanwhile waits."""
        self.is_paused = True
        self.is_steady = False

    def go_on(self):
        """Go on, and catch up."""
        self.is_paused = False
        missed, self._missed = self._missed, []
        for action, args in missed:
            self.soon(action, *args)

    def kill(self):
        """Do nothing any more."""
        self.is_dead = True
        self.is_steady = False
        self._missed.clear()
