"""The watch tells of calls that take longer than they may."""

import threading
import time

import pytest
from elrun.agent.system.call_watch import CallWatch


class Told:
    def __init__(self):
        self.waits = 0
        self.names = []
        self.has_come = threading.Event()

    def on_wait(self):
        self.waits += 1

    def on_hang(self, name):
        self.names.append(name)
        self.has_come.set()


@pytest.fixture(name="told")
def _told():
    return Told()


@pytest.fixture(name="watch")
def _watch(told):
    watch = CallWatch(0.01, told.on_wait, told.on_hang)
    watch.start()
    yield watch
    watch.close()


def test_each_call_that_hangs_is_told_once(watch, told):
    """However long it does."""
    for _ in range(2):
        told.has_come.clear()
        with watch.during("file"):
            told.has_come.wait()
            time.sleep(0.1)  # ten looks

    assert (["file", "file"], 2) == (told.names, told.waits)


def test_nothing_is_late_once_the_call_is_over(watch, told):
    """Else the end of a job would not wait for a file that is written again."""
    with watch.during("file"):
        told.has_come.wait()
        late = watch.late
    while watch.late:
        time.sleep(0.01)

    assert ("file", "") == (late, watch.current)


def test_a_watch_ends_whenever_it_is_closed():
    """Also while it finds that nothing is called, and is about to sleep."""
    watches = [CallWatch(0.0001, lambda: None, lambda _: None) for _ in range(2000)]
    for watch in watches:
        watch.start()
        with watch.during("file"):
            pass
        time.sleep(0.0002)
        watch.close()

    assert [] == [each for each in watches if each._thread.is_alive()]
