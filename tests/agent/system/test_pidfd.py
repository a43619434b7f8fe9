"""Waits for descriptors."""

import math
import os

import pytest
from elrun.agent.system.pidfd import milliseconds, wait_briefly

FOR_POLL = 2**31


@pytest.mark.parametrize(
    ("timeout_s", "expected"), [(None, None), (0, 0), (-1, 0), (0.0001, 1), (1.5, 1500)]
)
def test_a_time_is_rounded_up_to_milliseconds(timeout_s, expected):
    """A wait never ends before its time because of that."""
    assert expected == milliseconds(timeout_s)


@pytest.mark.parametrize("timeout_s", [2_147_484, 1e12, 10**308, 1e308, math.inf])
def test_no_time_is_too_long_for_the_kernel(timeout_s):
    """Whoever waits that long waits again."""
    assert 0 < milliseconds(timeout_s) < FOR_POLL


@pytest.mark.parametrize("timeout_s", [1e12, math.inf])
def test_a_wait_of_any_length_ends_with_what_is_waited_for(timeout_s):
    """The end of a pipe, here."""
    reader, writer = os.pipe()
    os.close(writer)

    assert wait_briefly([reader], timeout_s)
    os.close(reader)
