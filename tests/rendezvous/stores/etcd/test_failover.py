"""One of several servers is asked, then the next."""

import threading

import pytest
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousConnectionError
from elrun.rendezvous.stores.etcd.failover import (
    AnswerTime,
    Failover,
    Refused,
    Unreachable,
    plain_reason,
)


class Clock:
    """Each look at it takes a second."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


def fail(client):
    raise Unreachable(f"{client} is down")


def after(failures):
    """Return a question that is answered after some failures."""
    left = iter(range(failures))

    def ask(client):
        return fail(client) if next(left, None) is not None else client

    return ask


def only(*living):
    def ask(client):
        return client if client in living else fail(client)

    return ask


def test_the_first_server_is_asked_first():
    """Whoever serves is asked, and no other."""
    assert "a" == Failover("etcd", ["a", "b"], 10).call(only("a", "b"))


def test_the_next_server_is_asked_when_one_is_down():
    """And it stays the one that is asked."""
    servers = Failover("etcd", ["a", "b", "c"], 10)

    assert ("c", 2) == (servers.call(only("c")), servers.index)


def test_a_server_that_comes_back_is_found():
    """The round begins anew after the last one."""
    servers = Failover("etcd", ["a", "b"], 10)
    servers.call(only("b"))

    assert "a" == servers.call(only("a"))


def test_patience_ends_with_a_sentence():
    """It names the servers, the time and the last reason."""
    servers = Failover("etcd at a,b", ["a", "b"], 5, clock=Clock())

    with pytest.raises(
        RendezvousConnectionError,
        match=r"etcd at a,b could not be reached for 5 s \(--rdzv-conf store_pat.*: [ab] is down",
    ):
        servers.call(fail)


def test_all_calls_share_the_patience():
    """Who comes when others have waited in vain does not wait as long again."""
    servers = Failover("etcd", ["a"], 5, clock=Clock())
    asked = []
    with pytest.raises(RendezvousConnectionError):
        servers.call(fail)

    with pytest.raises(RendezvousConnectionError):
        servers.call(lambda client: asked.append(client) or fail(client))

    assert ["a"] == asked


@pytest.mark.parametrize("serves", ["a", "b", "c"])
def test_every_server_is_asked_before_the_patience_ends(serves):
    """However long the first of them takes to say nothing, and whoever waited before."""
    servers = Failover("etcd", ["a", "b", "c"], 1, clock=Clock())
    with pytest.raises(RendezvousConnectionError):
        servers.call(fail)

    assert serves == servers.call(only(serves))


def test_people_are_told_once_of_an_absence_and_once_of_its_end(caplog):
    """With the reason, for how long it is borne, and the setting that says so."""
    servers = Failover("etcd at a", ["a"], 60, clock=Clock(), announce_after_s=3)

    assert "a" == servers.call(after(4))
    absence, end = (record.getMessage() for record in caplog.records)
    assert (
        "etcd at a is not reached: a is down; it is tried for 60 s (--rdzv-conf store_patience=...)"
        == absence
    )
    assert "etcd at a is reached again" == end


@pytest.mark.parametrize(
    ("patience_s", "words"), [(3e8, "tried as long as it takes"), (1e6, "tried for 1000000 s")]
)
def test_any_time_is_told_as_a_person_would_give_it(caplog, patience_s, words):
    """3e8 stands for ``inf``."""
    servers = Failover("etcd at a", ["a"], patience_s, clock=Clock(), announce_after_s=3)
    servers.call(after(4), setting="join_timeout")

    assert f"etcd at a is not reached: a is down; it is {words} (--rdzv-conf join_timeout" in (
        caplog.text
    )


def test_a_reason_that_changes_is_told_with_all_the_others(caplog):
    """What each of the servers said last, in one line."""
    servers = Failover("etcd at a,b", ["a", "b"], 60, clock=Clock(), announce_after_s=3)
    reasons = iter(["a is down", "b is down", *["a is silent", "b is down"] * 4])

    def ask(client):
        reason = next(reasons, None)
        if reason is None:
            return client
        raise Unreachable(reason)

    servers.call(ask)

    first, second, end = (record.getMessage() for record in caplog.records)
    assert "etcd at a,b is not reached: a is down; b is down; it is tried for 60 s" in first
    assert second.startswith("etcd at a,b is still not reached, after ")
    assert "a is silent; b is down; it is tried for 60 s (--rdzv-conf store_patience" in second
    assert "etcd at a,b is reached again" == end


def test_a_short_absence_is_not_told(caplog):
    """Nobody has to know of a request that was lost."""
    servers = Failover("etcd at a", ["a"], 60, clock=Clock(), announce_after_s=10)
    servers.call(after(1))

    assert [] == caplog.records


QUESTIONS = {
    "answered at once": ([(0.1, True)], 1),
    "not answered": ([(1, False)], 2),
    "not answered again and again": ([(1, False), (2, False), (4, False), (4, False)], 4),
    "refused at once": ([(0.1, False)], 1),
    "answered late": ([(1, False), (1.5, True)], 2),
    "answered at once again": ([(1, False), (1.5, True), (0.5, True)], 1),
}


@pytest.mark.parametrize(("questions", "seconds"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_slow_server_gets_its_time_and_a_dead_one_little(questions, seconds):
    """A second at first, up to four where no answer came in time."""
    time = AnswerTime(1)
    for took_s, is_answered in questions:
        time.note(took_s, is_answered=is_answered)

    assert seconds == time.seconds


def test_a_server_that_serves_renews_the_patience():
    """What was in vain before doesn't count."""
    servers = Failover("etcd", ["a"], 5, clock=Clock())
    asked = []
    with pytest.raises(RendezvousConnectionError):
        servers.call(fail)
    servers.call(only("a"))

    with pytest.raises(RendezvousConnectionError):
        servers.call(lambda client: asked.append(client) or fail(client))

    assert 1 < len(asked)


def test_a_refusal_is_not_tried_again():
    """Another server would say the same."""
    asked = []

    def refuse(client):
        asked.append(client)
        raise Refused("no")

    with pytest.raises(RendezvousConnectionError, match="no"):
        Failover("etcd", ["a", "b"], 5).call(refuse)
    assert ["a"] == asked


def test_trouble_is_told():
    """Waits on the server that failed can be taken up elsewhere."""
    troubles = []
    Failover("etcd", ["a", "b"], 10, lambda: troubles.append(1)).call(only("b"))

    assert [1] == troubles


def test_a_stop_ends_the_attempts():
    """A node that is stopped while it reaches for etcd does not go on."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(RendezvousClosedError, match="gave up"):
        Failover("etcd", ["a"], 60).call(fail, stop=stop)


def test_nothing_is_asked_after_the_end():
    """The first reason stands."""
    servers = Failover("etcd", ["a"], 10)
    servers.end("lost")
    servers.end("closed")

    with pytest.raises(RendezvousConnectionError, match="^lost$"):
        servers.call(only("a"))


def wrapped(inner):
    try:
        try:
            raise inner
        except OSError as error:
            raise ValueError("wrapped") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (wrapped(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (ValueError(OSError(113, "No route to host")), "No route to host"),
        (TimeoutError(), "it does not answer"),
        (ValueError("odd"), "odd"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_reason_is_the_system_s_own(error, reason):
    """Nobody has to read an HTTP library's inner life."""
    assert reason == plain_reason(error)
