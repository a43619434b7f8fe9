"""Virtual time, and the one thread at a time that runs in it."""

import heapq
import itertools
import random

from greenlet import GreenletExit, getcurrent, greenlet


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
        self.switch_rate = 0.0
        self.hub = getcurrent()
        self._agenda = []
        self._order = itertools.count()

    def at(self, when, action, *args):
        """Let something happen, outside of all threads; what comes first goes first."""
        heapq.heappush(self._agenda, (when, next(self._order), action, args))

    def after(self, delay_s, action, *args):
        """Let something happen some seconds from now."""
        heapq.heappush(self._agenda, (self.now + delay_s, next(self._order), action, args))

    def soon(self, action, *args):
        """Let something happen within a moment, of a length that chance decides."""
        self.after(self.random.random() * 1e-4, action, *args)

    def run_until(self, end, is_over=lambda: False):
        """Let time pass up to a moment, or until something is the case."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= end and not is_over():
            self.now, _, action, args = heapq.heappop(agenda)
            self.steps += 1
            action(*args)
        if not is_over():
            self.now = max(self.now, end)


class Thread(greenlet):
    """A thread of a simulated machine: it runs until it blocks, and nothing else does meanwhile.

    Args:
        machine: Where it runs.
        target: What it does.
        args: With what.
        name: For people.
    """

    def __init__(self, machine, target, args=(), name="main"):
        super().__init__(parent=machine.world.hub)
        self.machine = machine
        self.name = name
        self.turn = 0
        self.is_over = False
        self._target, self._args = target, args
        self._joiners = []

    def run(self, _=None):
        if self.machine.is_dead:
            return
        try:
            self._target(*self._args)
        finally:
            self.is_over = True
            for thread, turn in self._joiners:
                self.machine.world.soon(thread.resume, turn)

    def start(self):
        """Begin within a moment."""
        self.machine.adopt(self)
        self.machine.world.soon(self.resume, self.turn)

    def block(self):
        """Stand still until somebody calls ``resume``; return, or raise, what that brings."""
        if self.machine.is_dead:
            raise GreenletExit
        brought = self.machine.world.hub.switch()
        if isinstance(brought, BaseException):
            raise brought
        return brought

    def resume(self, turn, brought=None):
        """Go on, unless this comes too late for the wait that it was meant for."""
        machine = self.machine
        if turn != self.turn or machine.is_dead or self.is_over:
            return
        if machine.is_paused:
            machine.missed.append((self, turn, brought))
            return
        self.turn += 1
        world = machine.world
        world.running = self
        try:
            self.switch(brought)
        finally:
            world.running = None

    def sleep(self, seconds, *, until=None):
        """Block for some seconds of this machine's clock, or until a list's reader resumes it."""
        if until is not None:
            until.append((self, self.turn))
        if seconds is not None:
            world, rate = self.machine.world, self.machine.clock_rate
            world.after(max(0.0, seconds) / rate, self.resume, self.turn)
        return self.block()

    def join(self, timeout=None):
        """Wait, from another thread, for the end of this one."""
        if not self.is_over:
            self.machine.world.running.sleep(timeout, until=self._joiners)

    def is_alive(self):
        """Return whether it has not ended."""
        return not self.is_over


class Machine:
    """What one node runs on: a clock of its own, and threads that live and die together.

    Args:
        world: Where it stands.
        name: Its host name.
        clock_rate: How many seconds its clock counts in one.
        is_steady: Whether the others have no reason to think it dead.
    """

    def __init__(self, world, name, clock_rate=1.0, *, is_steady=True):
        self.world = world
        self.name = name
        self.clock_rate = clock_rate
        self.is_dead = False
        self.is_steady = is_steady
        self.is_paused = False
        self.missed = []
        self._threads = []
        # Two clocks have nothing in common, so neither may their values.
        self._clock_read = world.random.uniform(0, 1e6)
        self._clock_read_at = world.now

    def __repr__(self):
        return self.name

    def clock(self):
        """Return the time, as its monotonic clock has it."""
        return self._clock_read + (self.world.now - self._clock_read_at) * self.clock_rate

    def set_clock_rate(self, rate):
        """Let the clock go faster or slower from now on."""
        self._clock_read, self._clock_read_at = self.clock(), self.world.now
        self.clock_rate = rate

    def spawn(self, target, *args):
        """Start a thread."""
        Thread(self, target, args).start()

    def adopt(self, thread):
        """Take a thread into this machine's life."""
        if self.is_dead:
            raise GreenletExit
        self._threads.append(thread)

    def pause(self):
        """Let no thread run from now on; what reaches them meanwhile waits."""
        self.is_paused = True
        self.is_steady = False

    def go_on(self):
        """Let the threads run again."""
        self.is_paused = False
        missed, self.missed = self.missed, []
        for thread, turn, brought in missed:
            self.world.soon(thread.resume, turn, brought)

    def kill(self):
        """End all threads, wherever they are; from outside of all of them."""
        self.is_dead = True
        self.is_steady = False
        for thread in self._threads:
            if not thread.is_over:
                thread.is_over = True
                self.world.running = thread
                thread.throw(GreenletExit)
                self.world.running = None
        self._threads.clear()
        self.missed.clear()
