"""A fork that its parent's signal handlers don't follow into the child."""

import os
import signal
import threading

import pytest
from elrun.agent.system.fork import handled_signals, shielded_fork
from elrun.agent.system.wakeup import Wakeup

pytestmark = pytest.mark.integration


@pytest.fixture(name="wakeup")
def _wakeup():
    """A wakeup descriptor that this process's signals are written to, with a handler."""
    wakeup = Wakeup()
    previous_fd = signal.set_wakeup_fd(wakeup.notify_fd)
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield wakeup
    signal.signal(signal.SIGUSR1, previous)
    signal.set_wakeup_fd(previous_fd)
    wakeup.close()


def fork_and_signal(before_reset):
    """Fork a child that signals itself, before or after it has let go; return how it ended."""
    with shielded_fork(handled_signals()) as reset:
        pid = os.fork()
        if pid == 0:
            if before_reset:
                os.kill(os.getpid(), signal.SIGUSR1)
            reset()
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("before_reset", [True, False])
def test_a_signal_for_the_child_is_not_counted_by_the_parent(wakeup, before_reset):
    """It kills the child, as it would kill any program, and the parent hears nothing of it."""
    exitcode = fork_and_signal(before_reset)

    assert -signal.SIGUSR1 == exitcode
    with pytest.raises(BlockingIOError):
        os.read(wakeup.fileno(), 1)


def test_a_signal_for_the_parent_waits_for_the_fork(wakeup):
    """It is handled afterwards, and the mask is what it was."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    with shielded_fork(handled_signals()):
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        with pytest.raises(BlockingIOError):
            os.read(wakeup.fileno(), 1)

    assert bytes([signal.SIGUSR1]) == os.read(wakeup.fileno(), 1)
    assert mask == signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ignored_signals_stay_ignored():
    """Under nohup the workers live on, too."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with shielded_fork(handled_signals(), ignored={signal.SIGUSR2}) as reset:
            pid = os.fork()
            if pid == 0:
                reset()
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGUSR2)
                os._exit(7)
    finally:
        signal.signal(signal.SIGHUP, previous)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
