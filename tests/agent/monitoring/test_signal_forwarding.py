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


def forwarder_of(sent, came, witnessed, now):
    workers = SimpleNamespace(signal_workers=lambda number, **_: sent.append(number) or 1)
    guardian = SimpleNamespace(
        take_witnessed=lambda: witnessed.pop() if witnessed else b"",
        has_pending=lambda _number: False,
    )
    forwarder = SignalForwarder(
        [SIGUSR1],
        lambda: [came.pop()] if came else [],
        guardian,
        Rounds(),
        lambda: None,
        lambda: now[0],
    )
    forwarder.begin_attempt(workers)
    return forwarder


def test_of_two_signals_to_all_that_elrun_gets_as_one_nothing_is_left_over():
    """The next one came to elrun alone, and is passed on though the guardian has got two before."""
    sent, now = [], [100.0]
    came, witnessed = [(SIGUSR1, 100.0)], [bytes([SIGUSR1, SIGUSR1])]
    forwarder = forwarder_of(sent, came, witnessed, now)
    forwarder.tick()
    to_all = list(sent)
    now[0] = 101.0
    came.append((SIGUSR1, 101.0))
    forwarder.tick()
    now[0] = 102.0
    forwarder.tick()

    assert ([], [SIGUSR1]) == (to_all, sent)


def test_the_second_of_two_signals_to_all_may_come_to_elrun_a_moment_later():
    """The guardian has got both by then: the workers, too, have got both."""
    sent, now = [], [100.0]
    came, witnessed = [(SIGUSR1, 100.0)], [bytes([SIGUSR1, SIGUSR1])]
    forwarder = forwarder_of(sent, came, witnessed, now)
    forwarder.tick()
    now[0] = 100.01
    came.append((SIGUSR1, 100.01))
    forwarder.tick()
    now[0] = 102.0
    forwarder.tick()

    assert [] == sent


def test_what_only_the_guardian_gets_is_forgotten():
    """Whatever else comes, it would vouch for nothing any more."""
    sent, now, witnessed = [], [100.0], []
    forwarder = forwarder_of(sent, [], witnessed, now)
    for _ in range(100):
        witnessed.append(bytes([SIGUSR1]))
        forwarder.tick()
        now[0] += 1.0

    assert len(forwarder._witnessed) <= 3
