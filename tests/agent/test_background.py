"""Calls in a thread of their own, and what those cost that raise, block or come too fast."""

import logging
import threading

import pytest
from elrun.agent.background import MAX_WAITING_CALLS, Background


@pytest.fixture(name="background")
def _background():
    return Background("a handler", "events")


class Gate(threading.Event):
    """A call that blocks until the gate is set; ``is_waited_at`` once it has begun."""

    def __init__(self):
        super().__init__()
        self.is_waited_at = threading.Event()

    def block(self):
        self.is_waited_at.set()
        self.wait()


@pytest.fixture(name="gate")
def _gate():
    """A call that blocks until the test is over."""
    gate = Gate()
    yield gate
    gate.set()


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_calls_are_made_in_their_order_by_another_thread(background):
    """One after the other, none by the thread that gave them."""
    seen = []
    for number in range(100):
        background.call(lambda number=number: seen.append((number, threading.get_ident())))
    background.close(30)

    assert list(range(100)) == [number for number, _ in seen]
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_there_is_no_thread_without_calls():
    """Most jobs have nothing to tell."""
    before = {*threading.enumerate()}
    Background("a handler", "events").close(30)

    assert set() == {*threading.enumerate()} - before  # another test's may have ended


def test_a_call_returns_while_the_one_before_blocks(background, gate):
    """The loop that calls must not wait for a handler."""
    seen = []
    background.call(gate.wait)
    background.call(lambda: seen.append("second"))

    assert [] == seen


def test_calls_that_raise_cost_one_warning(background, caplog):
    """Those that come after them are made."""
    seen = []
    for _ in range(3):
        background.call(lambda: 1 / 0)
    background.call(lambda: seen.append("made"))
    background.close(30)

    why = "ZeroDivisionError: division by zero"
    assert ["made"] == seen
    assert [f"a handler failed: {why}; events are lost"] == warnings_in(caplog)


def test_a_handler_that_wants_to_exit_does_not(background, caplog):
    """``SystemExit`` in a handler is a fault like another."""
    seen = []
    background.call(lambda: (_ for _ in ()).throw(SystemExit(3)))
    background.call(lambda: seen.append("made"))
    background.close(30)

    assert ["made"] == seen
    assert 1 == len(warnings_in(caplog))


def test_what_a_blocked_handler_has_not_taken_is_given_up(background, gate, caplog):
    """With one warning."""
    seen = []
    background.call(gate.wait)
    background.call(lambda: seen.append("late"))
    background.close(0.01)
    background.close(0.01)

    assert ["a handler has not taken all within 0.01 s; events are lost"] == warnings_in(caplog)
    gate.set()
    background._thread.join()
    assert [] == seen


def test_a_blocked_handler_can_not_fill_the_memory(background, gate, caplog):
    """What comes when too much waits is lost, with one warning."""
    background.call(gate.block)
    assert gate.is_waited_at.wait(30)
    for _ in range(MAX_WAITING_CALLS + 5):
        background.call(int)

    assert MAX_WAITING_CALLS == len(background._waiting)
    assert ["a handler is 10000 calls behind; events are lost"] == warnings_in(caplog)


@pytest.mark.usefixtures("no_threads")
def test_a_system_without_threads_to_spare_is_one_warning(background, caplog):
    """``ulimit -u`` counts threads, too."""
    background.call(int)
    background.call(int)
    background.close(30)

    fault = "can't be called: there can be no more threads"
    assert [f"a handler {fault}; events are lost"] == warnings_in(caplog)


def test_nothing_is_called_once_closed(background):
    """Neither by the thread, which has ended, nor by a new one."""
    seen = []
    background.close(30)
    background.call(lambda: seen.append("late"))
    background.close(30)

    assert [] == seen
