"""The invented world: virtual time, and machines that live, stand still and die."""

import pytest
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
        Machine(world, "node", rate).after(10, lambda: ends.append(round(world.now)))
    world.run_until(100)

    assert [5, 10, 20] == ends


def test_a_machine_that_stands_still_catches_up(world):
    """It does when it goes on what came meanwhile."""
    machine, seen = Machine(world, "node"), []
    machine.after(2, lambda: seen.append(round(world.now)))
    world.at(1, machine.pause)
    world.at(5, machine.go_on)
    world.run_until(10)

    assert [5] == seen


def test_a_dead_machine_does_nothing_more(world):
    """Whatever it was to do."""
    machine, seen = Machine(world, "node"), []
    machine.after(2, seen.append, "alive")
    world.at(1, machine.kill)
    world.run_until(10)

    assert [] == seen
