"""How the report writes times."""

from datetime import datetime, timezone

import pytest
from elrun.agent.elastic.observer import Moment
from elrun.agent.elastic.policy import Step
from elrun.agent.elastic.report_file import ReportFile, utc_text
from elrun.rendezvous.api.handler import RendezvousInfo


@pytest.mark.parametrize("wall_s", [0.0, 1790000000.0, 1790000000.9999, 1790000000.123])
def test_a_time_is_written_as_datetime_does(wall_s):
    """Readers parse it as ISO 8601; what is less than a millisecond is cut off."""
    moment = datetime.fromtimestamp(wall_s, timezone.utc)

    assert moment.isoformat(timespec="milliseconds") == utc_text(wall_s)


@pytest.mark.parametrize("set_by_s", [0.0, 3600.0, -3600.0])
def test_an_attempt_begins_and_ends_when_its_round_does(set_by_s):
    """That is told a while later; and a clock that was set meanwhile makes no time of it."""
    report = ReportFile([], {}, began_at=Moment(100.0, 10.0))
    report.replay(
        [
            (
                Moment(101.0 + set_by_s, 11.0),
                (),
                lambda each: each.joined(RendezvousInfo(None, 0, 1, None)),
            )
        ]
    )

    report.round_ended(None, Step.FINISH, Moment(103.5 + set_by_s, 13.5))

    (attempt,) = report._report["attempts"]
    assert "1970-01-01T00:01:41.000+00:00" == attempt["began_at"]
    assert ("1970-01-01T00:01:43.500+00:00", 2.5) == (attempt["ended_at"], attempt["duration_s"])


def test_an_attempt_that_a_laptop_sleeps_through_ends_when_it_is_awake_again():
    """The monotonic clock stands still meanwhile."""
    report = ReportFile([], {}, began_at=Moment(100.0, 50.0))
    joined_at = Moment(101.0, 51.0)
    report.replay([(joined_at, (), lambda each: each.joined(RendezvousInfo(None, 0, 1, None)))])

    report.round_ended(None, Step.FINISH, Moment(3703.5, 3653.5))

    (attempt,) = report._report["attempts"]
    assert ("1970-01-01T01:01:43.500+00:00", 3602.5) == (
        attempt["ended_at"],
        attempt["duration_s"],
    )
