"""The invented world: virtual time, machines that live and die, threads that take turns."""

import pytest
from simulator.stand_ins import Event, Lock
from simulator.world import Machine, World


@pytest.fixture(name="world")
def _world():
    return World(1)


def test_time_leaps_to_what_happens_next(world):
    """In the order of the moments, whatever the order of the calls."""
    seen = []
    for when in (3, 1, 2):
        world.at(when, lambda: seen.append(world.now))
    world.run_until(2.5)

    assert ([1, 2], 2.5) == (seen, world.now)


def test_a_fast_clock_cuts_waits_short(world):
    """A machine waits by its own clock, which nobody else knows."""
    ends = []
    for rate in (0.5, 1, 2):
        machine = Machine(world, "node", rate)
        machine.spawn(lambda: (world.running.sleep(10), ends.append(round(world.now))))
    world.run_until(100)

    assert [5, 10, 20] == ends


def test_a_machine_that_stands_still_catches_up(world):
    """What reached it meanwhile is there when it goes on."""
    machine = Machine(world, "node")
    event, seen = Event(world), []
    machine.spawn(lambda: (event.wait(), seen.append(round(world.now))))
    world.at(1, machine.pause)
    world.at(2, event.set)
    world.at(5, machine.go_on)
    world.run_until(10)

    assert [5] == seen


def test_a_dead_machine_does_nothing_more(world):
    """Its threads end where they are, without a word."""
    machine, seen = Machine(world, "node"), []
    machine.spawn(lambda: (world.running.sleep(2), seen.append("alive")))
    world.at(1, machine.kill)
    world.run_until(10)

    assert [] == seen


def test_a_lock_is_held_by_one_thread_at_a_time(world):
    """Also while its holder waits for something else."""
    machine, lock, seen = Machine(world, "node"), Lock(world), []

    def work(name):
        with lock:
            seen.append(name)
            world.running.sleep(1)
            seen.append(name)

    for name in "abc":
        machine.spawn(work, name)
    world.run_until(10)

    assert [1, 1, 1] == [seen[at : at + 2].count(seen[at]) - 1 for at in (0, 2, 4)]


def test_an_event_that_does_not_come_ends_the_wait_in_time(world):
    """And says so."""
    machine, event, seen = Machine(world, "node"), Event(world), []
    machine.spawn(lambda: seen.append((event.wait(3), round(world.now))))
    world.run_until(10)

    assert [(False, 3)] == seen
