"""What the system has run out of, in a sentence."""

import errno
import os

import pytest
from elrun.launcher.terminal.os_errors import shortage_behind
from elrun.rendezvous.threads import NoThreadError


@pytest.mark.parametrize(
    ("number", "path", "sentence"),
    [
        (errno.EMFILE, None, "Too many open files; raise the limit of open files (ulimit -n), or"),
        (errno.EAGAIN, None, "Resource temporarily unavailable; raise the limit of processes and"),
        (errno.ENOMEM, None, "Cannot allocate memory; it has no more memory; start fewer workers"),
        (errno.ENOSYS, None, "Function not implemented; elrun needs Linux 5.3 or newer, and a"),
        (errno.ENOSPC, "/full/x", "No space left on device (/full/x); make room there"),
    ],
)
def test_a_shortage_is_told_with_what_to_do(number, path, sentence):
    """And with the place, where there is one."""
    assert shortage_behind(OSError(number, os.strerror(number), path)).startswith(sentence)


def test_a_thread_that_cannot_start_is_a_shortage():
    """Whoever starts one gets an error of its own for it, whatever Python's says."""
    error = NoThreadError()

    assert shortage_behind(error).startswith("there can be no more threads; raise the limit")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "broken"),
        RuntimeError("can't start new thread"),
        ValueError("oh"),
        OSError("oh"),
    ],
)
def test_other_errors_are_none(error):
    """They are shown with where they happened."""
    assert "" == shortage_behind(error)
