"""Which signals are one: histories of what one agent receives and hears of."""

from signal import SIGUSR1, SIGUSR2

from elrun.agent.monitoring.signal_echoes import ECHO_S, SignalEchoes


def test_each_signal_of_this_node_has_a_number_of_its_own():
    """Two signals in a row are two, and each kind is counted apart."""
    echoes = SignalEchoes()

    assert [0, 1, 0] == [echoes.receive(number, 0.0) for number in (SIGUSR1, SIGUSR1, SIGUSR2)]


def test_an_announced_signal_is_news_once():
    """An agent hears its own announcement, too."""
    echoes = SignalEchoes()
    echoes.receive(SIGUSR1, 0.0)

    assert [False, True, False] == [echoes.learn(SIGUSR1, number, 0.0) for number in (0, 1, 1)]


def test_what_follows_an_announcement_is_its_echo():
    """A scheduler signals one node after the other: that is one signal."""
    echoes = SignalEchoes()
    echoes.learn(SIGUSR1, 0, 0.0)

    assert [None, 1] == [echoes.receive(SIGUSR1, at) for at in (ECHO_S - 0.1, ECHO_S - 0.1)]


def test_an_echo_that_is_late_is_a_signal():
    """A person may signal another node an hour later."""
    echoes = SignalEchoes()
    echoes.learn(SIGUSR1, 0, 0.0)

    assert 1 == echoes.receive(SIGUSR1, ECHO_S + 0.1)


def test_signals_in_a_row_have_echoes_in_a_row():
    """None is lost, and none counts twice."""
    echoes = SignalEchoes()
    learned = [echoes.learn(SIGUSR1, number, 0.0) for number in (0, 1)]

    assert [True, True] == learned
    assert [None, None, 2] == [echoes.receive(SIGUSR1, 1.0) for _ in range(3)]
