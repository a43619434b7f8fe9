"""What the protocol's modules see in place of the machine that they would run on.

The protocol is not to know of the simulator. It starts threads, takes locks, waits for events and
reads clocks like any program, through names in its modules: ``threading``, ``time``, ``socket``,
``PortClaim``. While histories are simulated, these names mean what is here.
"""

import contextlib
import functools
import sys
import threading
import types

from elrun.agent.elastic import agent
from elrun.rendezvous.node import rendezvous as rounds

from . import world as _world

LONGEST_STOP_S = 0.1
OURS = ("elrun.rendezvous.", "elrun.agent.elastic.")


class Event:
    """Like ``threading.Event``."""

    def __init__(self, world):
        self._world = world
        self._is_set = False
        self._waiters = []

    def is_set(self):
        return self._is_set

    def set(self):
        self._is_set = True
        waiters, self._waiters = self._waiters, []
        for thread, turn in waiters:
            self._world.soon(thread.resume, turn)

    def clear(self):
        self._is_set = False

    def wait(self, timeout=None):
        if not self._is_set:
            self._world.running.sleep(timeout, until=self._waiters)
        return self._is_set


class Lock:
    """Like ``threading.Lock``; a thread that takes it may be stopped for a moment just before."""

    def __init__(self, world):
        self._world = world
        self._is_held = False
        self._waiters = []

    def __enter__(self):
        world = self._world
        thread = world.running
        if world.switch_rate and world.random.random() < world.switch_rate:
            thread.sleep(world.random.random() * LONGEST_STOP_S)
        while self._is_held:
            thread.sleep(None, until=self._waiters)
        self._is_held = True

    def __exit__(self, *_):
        self._is_held = False
        waiters, self._waiters = self._waiters, []
        for thread, turn in waiters:
            self._world.soon(thread.resume, turn)


class Threading:
    """Like the module ``threading``, for whatever thread of the world calls it."""

    TIMEOUT_MAX = threading.TIMEOUT_MAX

    def __init__(self, world):
        self._world = world

    def Thread(self, target, args=(), name="thread", daemon=True):  # noqa: N802  the real name
        return _world.Thread(self._world.running.machine, target, args, name)

    def Event(self):  # noqa: N802  the real name
        return Event(self._world)

    def Lock(self):  # noqa: N802  the real name
        return Lock(self._world)


class Time:
    """Like the module ``time``, as far as it may be used."""

    def __init__(self, world):
        self._world = world

    def monotonic(self):
        return self._world.running.machine.clock()


class PortClaim:
    """Like ``ports.PortClaim``: a number that no other claim has."""

    def __init__(self, port):
        self.port = port

    def release(self):
        pass


def _stand_ins(world):
    """Return what to put in place of which name."""
    ports = iter(range(20000, 60000))
    return {
        "threading": Threading(world),
        "time": Time(world),
        "socket": types.SimpleNamespace(gethostname=lambda: world.running.machine.name),
        "PortClaim": types.SimpleNamespace(take=lambda: PortClaim(next(ports))),
    }


@contextlib.contextmanager
def simulated_machines(world):
    """Let the protocol run in a world."""
    ours = _stand_ins(world)
    replaced = []
    try:
        for module in _protocol():
            for name, value in ours.items():
                if name in module.__dict__:
                    replaced.append((module, name, module.__dict__[name]))
                    setattr(module, name, value)
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


@functools.cache
def _protocol():
    """Return the modules that a node's rendezvous is made of, and the agent's loop."""
    found = [rounds, agent]
    for module in found:  # grows meanwhile
        named = (getattr(value, "__module__", None) or "" for value in vars(module).values())
        for name in named:
            if name.startswith(OURS) and sys.modules[name] not in found:
                found.append(sys.modules[name])
    return tuple(found)
