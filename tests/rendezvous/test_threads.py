"""Threads that the system may refuse, and calls that may never return."""

import errno
import threading

import pytest
from elrun.rendezvous.threads import Call, NoThreadError, call_in_time, start_thread

PATIENCE_S = 60


def test_a_call_returns_what_its_function_returned_in_a_thread_of_the_given_name():
    """The caller is woken once, when the call has ended."""
    woken = threading.Event()

    call = Call(lambda: threading.current_thread().name, "elrun-test", woken.set, or_here=False)

    assert woken.wait(PATIENCE_S)
    assert (True, "elrun-test") == (call.is_done, call.result())


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_call_raises_what_its_function_raised(error):
    """In the thread that asks for the result, whatever it is."""

    def fail():
        raise error

    call = Call(fail, "elrun-test", or_here=False)

    assert call.wait(PATIENCE_S)
    with pytest.raises(type(error)) as raised:
        call.result()
    assert error is raised.value


def test_a_caller_may_give_up_on_a_call():
    """It goes on by itself, and may still end."""
    gate = threading.Event()
    call = Call(lambda: gate.wait(PATIENCE_S), "elrun-test", or_here=False)

    in_time = [call.wait(0.0), call.wait(-1.0)]
    gate.set()

    assert [False, False] == in_time
    assert call.wait(float("inf"))


def test_a_call_that_takes_too_long_is_a_time_out():
    """The thread is left to itself."""
    gate = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        call_in_time(gate.wait, 0.01, "elrun-test")
    gate.set()

    assert 7 == call_in_time(lambda: 7, PATIENCE_S, "elrun-test")


@pytest.mark.usefixtures("no_threads")
def test_a_thread_that_the_system_refuses_is_a_shortage():
    """An OSError with the number that tells of it; Python raises a bare RuntimeError."""
    with pytest.raises(NoThreadError) as refused:
        start_thread(threading.Thread(target=print))

    assert errno.EAGAIN == refused.value.errno
    assert isinstance(refused.value, OSError)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_a_call_is_made_here_if_it_may():
    """It has ended when its caller gets it, with the value or the error; the wake comes, too."""
    here, woken = threading.get_ident(), []

    call = Call(threading.get_ident, "elrun-test", lambda: woken.append(1), or_here=True)
    failed = Call(lambda: {}["x"], "elrun-test", or_here=True)

    assert (True, True, here, [1]) == (call.wait(0), failed.wait(0), call.result(), woken)
    with pytest.raises(KeyError):
        failed.result()


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_an_interrupt_is_raised_at_once():
    """Nobody may ask for the result of a call that is made on the way out."""

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Call(interrupt, "elrun-test", or_here=True)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_a_call_that_must_not_block_is_not_made():
    """Its caller learns that there is no thread."""
    made = []

    with pytest.raises(NoThreadError):
        Call(lambda: made.append(1), "elrun-test", or_here=False)
    with pytest.raises(NoThreadError):
        call_in_time(lambda: made.append(1), PATIENCE_S, "elrun-test")

    assert [] == made
