"""Functions of the C library, as ``agent/system/libc.py`` calls them."""

import ctypes
import subprocess
import sys

import pytest
from elrun.agent.system.libc import Int, byref, libc_function


def test_a_function_returns_what_it_returns_by_ctypes():
    """For ints with and without a sign, as ``close_range`` takes its last descriptor."""
    by_ctypes = ctypes.CDLL(None)

    for name, *arguments in (("abs", -7), ("atoi", b"42"), ("toupper", 97), ("getpid",)):
        assert getattr(by_ctypes, name)(*arguments) == libc_function(name)(*arguments)
    assert libc_function("close")(0xFFFFFFFF) == -1


def test_a_function_writes_where_it_is_told():
    """``sscanf`` writes an int."""
    found = Int(0)

    fields = libc_function("sscanf")(b"port 29500", b"port %d", byref(found))

    assert (1, 29500) == (fields, found.value)


def test_a_function_that_is_missing_is_an_error():
    """It says which."""
    with pytest.raises(OSError, match="no_such_function"):
        libc_function("no_such_function")


KEEPS_THE_LOCK = """
import sys, threading, time
from elrun.agent.system.libc import libc_function

def take_turns():
    while True:
        turns.append(0)
        time.sleep(0)

turns, pause = [], libc_function("usleep")
sys.setswitchinterval(1000)  # a thread goes on until it lets go of the lock by itself
threading.Thread(target=take_turns, daemon=True).start()
before = len(turns)
pause(20_000)
print(len(turns) - before)
"""


def test_a_function_that_blocks_keeps_the_interpreters_lock():
    """To wait for it is what a forked child must not do."""
    said = subprocess.check_output([sys.executable, "-c", KEEPS_THE_LOCK], text=True)

    assert "0\n" == said
