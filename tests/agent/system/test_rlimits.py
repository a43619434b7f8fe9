"""How many open files there may be."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration  # a limit is a process's own

LIMITS_AFTERWARDS = """
import resource, sys
from elrun.agent.system.rlimits import make_room_for
soft, hard, workers = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
make_room_for(workers)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_afterwards(soft, hard, workers):
    text = subprocess.check_output(
        [sys.executable, "-c", LIMITS_AFTERWARDS, str(soft), str(hard), str(workers)], text=True
    )
    return tuple(map(int, text.split()))


def test_a_large_group_raises_the_limit_as_far_as_it_needs():
    """And leaves the one above alone."""
    soft, hard = limits_afterwards(64, 1000, 50)

    assert 50 * 12 < soft < 1000 == hard


def test_a_small_group_leaves_the_limit_alone():
    """Programs may count on it."""
    assert (200, 1000) == limits_afterwards(200, 1000, 2)


def test_the_limit_is_raised_no_further_than_it_may_be():
    """What lacks descriptors then says so."""
    assert (100, 100) == limits_afterwards(64, 100, 50)
