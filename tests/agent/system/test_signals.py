"""Signals that end the job."""

import os
import select
import signal

import pytest
from elrun.agent.system.signals import SignalException, SignalInbox, parse_signals
from elrun.agent.system.wakeup import Wakeup


def is_readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


@pytest.fixture(name="wake")
def _wake():
    wake = Wakeup()
    yield wake
    wake.close()


def test_a_notified_wakeup_is_readable_until_it_is_cleared(wake):
    """However often it was notified, one clear is enough."""
    wake.notify()
    wake.notify()

    assert is_readable(wake.fileno())
    wake.clear()
    assert not is_readable(wake.fileno())


def test_a_full_wakeup_does_not_block(wake):
    """A million notifications fit, since one readable byte says it all."""
    for _ in range(100_000):
        wake.notify()

    assert is_readable(wake.fileno())


def test_a_closed_wakeup_swallows_notifications():
    """A thread that comes late does no harm."""
    wake = Wakeup()
    wake.close()

    wake.notify()
    wake.close()


def test_a_signal_wakes_the_loop_and_is_raised_where_the_loop_asks(wake):
    """The handler itself raises nothing."""
    with SignalInbox("SIGUSR1", wake) as inbox:
        os.kill(os.getpid(), signal.SIGUSR1)

        assert is_readable(wake.fileno())
        with pytest.raises(SignalException, match="SIGUSR1") as caught:
            inbox.raise_if_any()

    assert signal.SIGUSR1 is caught.value.sigval


def test_one_signal_is_not_urgent(wake):
    """The first signal leaves the workers their time."""
    with SignalInbox("SIGUSR1", wake) as inbox:
        os.kill(os.getpid(), signal.SIGUSR1)

        assert not is_readable(inbox.urgency.fileno())


TERM, HUP, INT, QUIT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([(0, TERM), (0.01, TERM)], False),  # SLURM at a time limit
        ([(0, TERM), (20, TERM), (25, TERM)], False),
        ([(0, TERM), (1, HUP), (2, TERM), (3, HUP)], False),
        ([(0, HUP), (1, TERM)], False),
        ([(0, INT), (1, TERM), (2, HUP)], False),  # LSF's bkill
        ([(0, INT), (0.49, INT)], False),  # a wrapper forwards the Ctrl-C that reached the group
        ([(0, TERM), (0.1, INT), (0.2, QUIT)], False),
        ([(0, signal.SIGUSR1), (1, signal.SIGUSR1), (2, signal.SIGUSR2)], False),
        ([(0, INT), (0.5, INT)], True),
        ([(0, INT), (0.1, INT), (0.6, INT)], True),
        ([(0, QUIT), (1, QUIT)], True),
        ([(0, INT), (1, QUIT)], True),
        ([(0, TERM), (1, TERM), (2, INT)], True),  # a person, after the scheduler
        ([(0, signal.SIGUSR1), (1, INT)], True),
    ],
)
@pytest.mark.parametrize("taken_between", [True, False])
@pytest.mark.usefixtures("heeded_signals")
def test_only_a_later_ctrl_c_is_urgent(wake, history, expected, taken_between):
    """SIGINT or SIGQUIT, half a second or more after the first signal, whichever that was."""
    names = "SIGTERM,SIGHUP,SIGINT,SIGQUIT,SIGUSR1,SIGUSR2"
    times = iter([at_s for at_s, _ in history])
    with SignalInbox(names, wake, clock=lambda: 100.0 + next(times)) as inbox:
        for _, number in history:
            signal.raise_signal(number)
            if taken_between and inbox.has_any():
                with pytest.raises(SignalException, match=history[0][1].name):
                    inbox.raise_if_any()

        assert expected == is_readable(inbox.urgency.fileno())


def test_handlers_are_put_back(wake):
    """A library user's own handlers stand again after the job."""
    mine = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with SignalInbox("SIGUSR1", wake):
            assert signal.SIG_IGN is not signal.getsignal(signal.SIGUSR1)

        assert signal.SIG_IGN is signal.getsignal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, mine)


def test_no_signals_leave_no_trace(wake):
    """With nothing to handle, the interpreter's wake-up descriptor is left alone."""
    with SignalInbox("", wake):
        pass

    assert -1 == signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_the_end_of_a_child_wakes_the_loop(wake, before):
    """It may be one that the agent has adopted, and is no wish to stop."""
    mine = signal.signal(signal.SIGCHLD, before)
    try:
        with SignalInbox("SIGUSR1", wake) as inbox:
            os.kill(os.getpid(), signal.SIGCHLD)

            assert (True, False) == (is_readable(wake.fileno()), inbox.has_any())
        assert signal.SIG_DFL is signal.getsignal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, mine)


def test_a_program_may_watch_its_children_itself(wake):
    """As some event loops do."""
    mine = signal.signal(signal.SIGCHLD, watch := lambda *_: None)
    try:
        with SignalInbox("SIGUSR1", wake):
            assert watch is signal.getsignal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, mine)


def test_a_program_s_own_signal_is_not_urgent(wake):
    """After the first signal, another that the program handles itself is not a second one."""
    mine = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with SignalInbox("SIGUSR1", wake) as inbox:
            os.kill(os.getpid(), signal.SIGUSR1)
            with pytest.raises(SignalException):
                inbox.raise_if_any()
            os.kill(os.getpid(), signal.SIGUSR2)

            assert not is_readable(inbox.urgency.fileno())
    finally:
        signal.signal(signal.SIGUSR2, mine)


def test_nohup_is_respected(wake):
    """SIGHUP that is ignored at the start stays ignored."""
    mine = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalInbox("SIGHUP,SIGTERM", wake) as inbox:
            os.kill(os.getpid(), signal.SIGHUP)
            inbox.raise_if_any()

            assert not is_readable(wake.fileno())
    finally:
        signal.signal(signal.SIGHUP, mine)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("SIGTERM,SIGINT", (signal.SIGTERM, signal.SIGINT)),
        (" usr1 , SIGUSR1,", (signal.SIGUSR1,)),
        ("", ()),
    ],
)
def test_signals_are_named_as_people_do(names, expected):
    """With or without SIG, in any case, each once."""
    assert expected == parse_signals(names)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("SIGFOO", "SIGFOO is no signal"),
        ("SIGTERM,9", "9 is no signal"),
        ("SIGKILL", "SIGKILL can't be handled"),
        ("STOP", "SIGSTOP can't be handled"),
        ("sigterm,chld", "SIGCHLD comes with the end of each worker"),
        ("SIGSEGV", "SIGSEGV tells of a crash"),
        ("BUS", "SIGBUS tells of a crash"),
    ],
)
def test_an_unfit_signal_is_refused(names, sentence):
    """One that is unknown, can't be handled, or is no wish to stop; the error says why."""
    with pytest.raises(ValueError, match=sentence):
        parse_signals(names)


def test_a_request_is_taken_once_and_stops_nothing(wake):
    """SIGUSR2 asks where workers are; afterwards its default is back."""
    with SignalInbox("SIGTERM", wake) as inbox:
        os.kill(os.getpid(), signal.SIGUSR2)

        assert (True, False) == (is_readable(wake.fileno()), inbox.has_any())
        assert [True, False] == [inbox.take_request() for _ in range(2)]
    assert signal.SIG_DFL is signal.getsignal(signal.SIGUSR2)


def test_a_request_may_be_answered_at_once(wake):
    """While the main thread is busy, the handler starts what answers."""
    answered = []
    with SignalInbox("SIGTERM", wake) as inbox:
        inbox.answer_aside = lambda: answered.append(inbox.take_request())
        os.kill(os.getpid(), signal.SIGUSR2)

    assert [True] == answered


@pytest.mark.parametrize("mine", [signal.SIG_IGN, print])
def test_a_program_that_has_a_use_for_the_signal_keeps_it(wake, mine):
    """Also one that ignores it; elrun's own command passes a handler for afterwards."""
    before = signal.signal(signal.SIGUSR2, mine)
    try:
        with SignalInbox("SIGTERM", wake):
            assert mine is signal.getsignal(signal.SIGUSR2)
        with SignalInbox("SIGTERM", wake, handler_afterwards=print) as inbox:
            assert (mine is print) is (signal.getsignal(signal.SIGUSR2) == inbox._note_request)
        assert mine is signal.getsignal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_signals_of_the_workers_are_kept_and_end_nothing(wake):
    """Neither while there are workers, nor, under elrun's own command, after their end."""
    before = signal.getsignal(signal.SIGUSR1)
    own_command = {"handler_afterwards": lambda *_: None}
    try:
        for options, after in ((own_command, signal.SIG_IGN), ({}, before)):
            with SignalInbox("SIGTERM", wake, passed_on=[signal.SIGUSR1], **options) as inbox:
                os.kill(os.getpid(), signal.SIGUSR1)

                assert is_readable(wake.fileno())
                assert [signal.SIGUSR1] == [number for number, _ in inbox.take_passed_on()]
                assert [] == inbox.take_passed_on()
                assert not inbox.has_any()
            assert after == signal.getsignal(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, before)
            wake = Wakeup()
    finally:
        signal.signal(signal.SIGUSR1, before)
        wake.close()
