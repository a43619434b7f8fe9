"""The lines that are logged while a store is not reached yet."""

import pytest
from elrun.rendezvous.stores.server.retry import Retry
from elrun.rendezvous.stores.store import Limit, Stop


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (None, "it is tried as long as it takes (--rdzv-conf join_timeout=...)"),
        (Limit(10.0, "refusal_timeout"), "it is tried for 10 s (--rdzv-conf refusal_timeout=...)"),
    ],
)
def test_the_line_says_for_how_long_it_is_tried_and_by_which_setting(caplog, limit, words):
    """A node that is refused tries it for another time than one that takes part."""
    stop = Stop()
    stop.limit = limit
    retry = Retry(stop, 3e8, "host:1", "the rendezvous at host:1 is not there")

    assert retry.pause("Connection refused", notice_s=0.0)
    assert [f"the rendezvous at host:1 is not there yet: Connection refused; {words}"] == [
        record.getMessage() for record in caplog.records
    ]
