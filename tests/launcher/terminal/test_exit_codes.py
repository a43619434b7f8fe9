"""The exit codes of elrun."""

import signal

import pytest
from elrun.launcher.terminal.process_end import exit_code_of_signal, exit_code_of_worker


@pytest.mark.parametrize(
    ("exitcode", "expected"),
    [(1, 1), (3, 3), (125, 125), (126, 126), (255, 255), (-9, 137), (-11, 139), (0, 1), (256, 1)],
)
def test_a_shell_sees_what_it_would_have_seen_of_the_worker(exitcode, expected):
    """128+n for signal n; never 0."""
    assert expected == exit_code_of_worker(exitcode)


def test_a_stopped_elrun_tells_the_signal():
    """128+n."""
    assert 143 == exit_code_of_signal(signal.SIGTERM)
