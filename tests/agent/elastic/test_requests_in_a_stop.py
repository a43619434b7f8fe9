"""SIGUSR2 while workers are stopped: one thread asks them, another one lets go of them."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from agent_kit import ScriptedRounds
from elrun.agent.elastic.places import tell_places
from elrun.agent.elastic.waiting import LoopWait
from elrun.agent.processes.process import WorkerProcess
from elrun.agent.system.stacks import offer_of_hook

OFFERS = f"""
import os, signal, time
os.dup2(os.pipe()[1], {offer_of_hook().fd})
signal.signal({offer_of_hook().signal}, lambda *_: os.write({offer_of_hook().fd}, b"I was asked"))
print("ready", flush=True)
while True:
    time.sleep(100)
"""


def test_the_main_thread_copies_what_the_other_one_tells():
    """It changes the tables of the workers meanwhile, so that no other thread may read them."""
    threads, has_told = [], threading.Event()

    def teller():
        threads.append(threading.current_thread())
        return lambda: (threads.append(threading.current_thread()), has_told.set())

    loop = LoopWait("SIGTERM", ScriptedRounds(), None, lambda: None)
    with loop.inbox, loop.answering_aside(teller):
        os.kill(os.getpid(), signal.SIGUSR2)
        assert has_told.wait(30)

    main, other = threads
    assert main is threading.main_thread()
    assert other is not main


@pytest.mark.integration
@pytest.mark.parametrize("is_let_go", [False, True])
def test_a_process_that_was_let_go_gets_no_signal(is_let_go):
    """Its id may be another process's by then: it is spared."""
    found = {}
    workers = SimpleNamespace(error_files={})
    group = SimpleNamespace(
        workers=[SimpleNamespace(local_rank=0, global_rank=0)], group_world_size=1
    )
    command = [sys.executable, "-c", OFFERS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline()
            process = WorkerProcess(other.pid, reap=lambda: None)
            if is_let_go:
                process.let_go()
            tell_places(group, workers, {0: process}, {}, lambda _, each: found.update(each))
            process.let_go()
        finally:
            other.kill()

    assert is_let_go is ("I was asked" not in found[0].stack)
