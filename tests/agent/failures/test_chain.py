"""The earlier exceptions of a chain are read from a traceback."""

import traceback
from pathlib import Path

from elrun.agent.failures.chain import Cause, causes_in


def traceback_of(action):
    """Return what Python prints of the exception that an action raises."""
    try:
        action()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("no exception")


def chained():
    try:
        try:
            {}["a"]
        except KeyError:
            Path("/no/such").read_text()
    except OSError as error:
        raise RuntimeError("first\nsecond") from error


def test_the_nearest_cause_comes_first():
    """With the way in which it led to the next one."""
    expected = [
        Cause("FileNotFoundError: [Errno 2] No such file or directory: '/no/such'", is_direct=True),
        Cause("KeyError: 'a'", is_direct=False),
    ]

    assert expected == causes_in(traceback_of(chained))


def test_a_lone_exception_has_no_cause():
    """Nor has a text that is no traceback."""
    assert [[], [], []] == [causes_in(each) for each in (traceback_of(lambda: 1 / 0), "", "x\ny")]


def test_the_traceback_of_another_process_is_no_cause():
    """A pool chains it to the same exception."""
    text = (
        'concurrent.futures.process._RemoteTraceback: \n"""\nTraceback (most recent call last):\n'
        '  File "a.py", line 1, in f\nValueError: x\n"""\n\n'
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 1, in g\nValueError: x\n'
    )

    assert [Cause("ValueError: x", is_direct=True)] == causes_in(text)


def deep(level):
    try:
        if level == 0:
            raise OSError("disk gone")
        deep(level - 1)
    except Exception as error:
        raise RuntimeError(f"level {level}") from error


def test_the_first_cause_of_a_long_chain_is_told():
    """It says most; how many stand between is told as well."""
    expected = [
        Cause("RuntimeError: level 7", is_direct=True),
        Cause("RuntimeError: level 6", is_direct=True),
        Cause("OSError: disk gone", is_direct=True, left_out=6),
    ]

    assert expected == causes_in(traceback_of(lambda: deep(8)))
