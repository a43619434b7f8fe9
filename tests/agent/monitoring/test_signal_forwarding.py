"""What agents of other nodes announce is checked at the door."""

from signal import SIGUSR1
from types import SimpleNamespace

import pytest
from elrun.agent.monitoring.signal_forwarding import SignalForwarder


class Rounds:
    """Hands over what is announced."""

    def listen(self, _topics, hear):
        self.hear = hear


@pytest.mark.parametrize("notice", [b"[1]", b"7", b"null", b"{", b'{"node": 1}', b"[" * 100_000])
def test_a_notice_that_is_none_signals_nobody(notice):
    """Nor does it end the agent; the next one is heard."""
    rounds, sent = Rounds(), []
    workers = SimpleNamespace(signal_workers=lambda number, **_: sent.append(number) or 1)
    guardian = SimpleNamespace(take_witnessed=list, has_pending=lambda _number: False)
    forwarder = SignalForwarder([SIGUSR1], list, guardian, rounds, lambda: None)
    forwarder.begin_attempt(workers)

    rounds.hear(str(int(SIGUSR1)), 0, notice)
    rounds.hear(str(int(SIGUSR1)), 1, b'{"node": "n", "to_all": false}')
    forwarder.tick()

    assert [SIGUSR1] == sent
