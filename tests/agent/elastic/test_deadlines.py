"""What is taken from SLURM's word on when a job ends."""

import time

import pytest
from elrun.agent.elastic.deadlines import left_until

NOW = 1_700_000_000.0


def test_local_time_and_seconds_since_the_epoch_are_understood():
    """As squeue and SLURM_JOB_END_TIME have them."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(NOW + 90))

    assert (90.0, 90.0) == (left_until(text, NOW), left_until(str(NOW + 90), NOW))


@pytest.mark.parametrize(
    "text",
    [
        "NONE",
        "Unknown",
        "N/A",
        "T",
        "",
        "soon",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e300",
        "0",
        str(NOW),
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:60",
        "99999-01-01T00:00:00",
        "2023-02-30T00:00:00",
        "2023-11-14T22:13:20+01:00",
        "23:59:59",
        "Tomorr 09:00",
    ],
)
def test_what_is_no_time_to_come_is_not_taken(text):
    """The usual time holds; nothing raises, however absurd the text is."""
    assert left_until(text, NOW) is None
