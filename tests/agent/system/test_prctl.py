"""What the kernel does for the children of a process that dies."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest
import worker_kit
from elrun.agent.system.prctl import (
    OrphanAdoption,
    death_signal_for_children,
    process_namer,
    set_subreaper,
)

pytestmark = pytest.mark.integration

PARENT = """
import os, signal
from elrun.agent.system.prctl import death_signal_for_children
begin = death_signal_for_children()
pid = os.fork()
if pid == 0:
    begin()
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
DEAD_PARENT = """
import os, select, signal
from elrun.agent.system.prctl import death_signal_for_children
read_end, write_end = os.pipe()
if os.fork() == 0:
    begin = death_signal_for_children()
    parent = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        select.select([parent], [], [])
        begin()
        os.write(write_end, b"it lives")
    os._exit(0)
os.close(write_end)
print(os.read(read_end, 100).decode() or "nothing")
"""


def in_child(function):
    """Return what a function says in a forked child."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, repr(function()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    said = os.read(read_end, 1000).decode()
    os.close(read_end)
    os.close(write_end)
    return said


def death_signal():
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
    return number.value


def test_a_child_dies_with_its_parent():
    """Even if that is killed by SIGKILL."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent.stdout:
        pidfds = worker_kit.hold(parent.stdout.readline())

    parent.kill()
    parent.wait()

    assert worker_kit.all_end(pidfds)


def test_a_child_whose_parent_died_before_it_could_ask_ends():
    """The kernel sends nothing for a death that is past."""
    assert ["nothing"] == subprocess.check_output(
        [sys.executable, "-c", DEAD_PARENT], text=True
    ).split()


def test_a_child_of_another_thread_is_left_alone():
    """For the kernel the parent is a thread, which may end long before its process does."""
    begins = [death_signal_for_children()]
    thread = threading.Thread(target=lambda: begins.append(death_signal_for_children()))
    thread.start()
    thread.join()

    assert ["9", "0"] == [in_child(lambda b=begin: b() or death_signal()) for begin in begins]


def test_subreaper_can_be_switched_on_and_off():
    """Each switch returns what was before."""
    states = [set_subreaper(on=True), set_subreaper(on=True), set_subreaper(on=False)]

    assert [False, True, True, False] == [*states, set_subreaper(on=False)]


def is_subreaper():
    state = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(state), 0, 0, 0)
    return bool(state.value)


@pytest.mark.parametrize("before", [False, True])
def test_orphans_are_adopted_until_the_last_holder_lets_go(before):
    """Then all is as the first has found it."""

    def states():
        set_subreaper(on=before)
        adoption = OrphanAdoption.of_this_process()
        steps = (adoption.hold, adoption.hold, adoption.release, adoption.release)
        return [step() or is_subreaper() for step in steps]

    assert repr([True, True, True, before]) == in_child(states)


def test_a_forked_child_holds_nothing_of_its_parent_s():
    """The kernel does not let it inherit the adoption, so it begins to count anew."""
    adoption = OrphanAdoption.of_this_process()
    adoption.hold()

    def states():
        own = OrphanAdoption.of_this_process()
        return [is_subreaper(), own.hold() or is_subreaper(), own.release() or is_subreaper()]

    try:
        assert repr([False, True, False]) == in_child(states)
    finally:
        adoption.release()


def test_a_child_takes_a_name():
    """Fifteen bytes of it count."""
    take_name = process_namer("a-name-that-is-too-long")

    def name():
        take_name()
        with open("/proc/self/comm") as file:
            return file.read()

    assert repr("a-name-that-is-\n") == in_child(name)
