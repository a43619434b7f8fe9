"""How the report writes times."""

from datetime import datetime, timezone

import pytest
from elrun.agent.elastic.report_file import utc_text


@pytest.mark.parametrize("wall_s", [0.0, 1790000000.0, 1790000000.9999, 1790000000.123])
def test_a_time_is_written_as_datetime_does(wall_s):
    """Readers parse it as ISO 8601; what is less than a millisecond is cut off."""
    moment = datetime.fromtimestamp(wall_s, timezone.utc)

    assert moment.isoformat(timespec="milliseconds") == utc_text(wall_s)
