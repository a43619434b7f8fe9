"""Connections that break while both ends live, and clients that are gone: over real sockets."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from cable_kit import Cable
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.loop import Loop
from elrun.rendezvous.stores.server.answers import Answers
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import Target, Unreached, dial
from elrun.rendezvous.stores.server.hello import UNKNOWN_SESSION, Hello, Refusal, name_of_run
from elrun.rendezvous.stores.server.host import host_store
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.server.link import Link
from elrun.rendezvous.stores.server.sessions import MOST_OUTCOMES, Sessions
from elrun.rendezvous.stores.server.wire import Add, Create, Get, LeaveWill, Set, Wait
from elrun.rendezvous.stores.signed import Secret, SignedStore
from elrun.rendezvous.stores.store import Will, leave_will, read_by
from elrun.rendezvous.threads import NoThreadError
from round_kit import AllGuests

HERE = "127.0.0.1"
LONG_S = 30
GONE = Will({"beat": b"gone"}, {"verdict": b"lost"}, ("success",))


@pytest.fixture(name="host")
def _host(port):
    """Return the store of a run, at a port that others can connect to."""
    host = StoreConnector(Endpoint(HERE, port), True, None, LONG_S)(threading.Event()).store
    host.port = port
    yield host
    host.close()


@pytest.fixture(name="cable")
def _cable(host):
    cable = Cable(host.port)
    yield cable
    cable.close()


@pytest.fixture(name="guest")
def _guest(cable):
    """Return another node's store, at the far end of a cable."""
    guest = guest_at(cable)
    yield guest
    guest.close()


def guest_at(cable, **settings):
    connect = StoreConnector(cable.endpoint, False, None, LONG_S, **settings)
    return connect(threading.Event()).store


@pytest.fixture(name="patient_guest")
def _patient_guest(cable):
    """Return one for which the others wait, if its connection breaks."""
    guest = guest_at(cable, grace_s=LONG_S)
    yield guest
    guest.close()


def test_no_write_happens_twice_and_none_is_lost(cable, guest, host):
    """However often the connection breaks, at whatever moment."""
    counts = []
    counting = threading.Thread(target=lambda: counts.extend(guest.add("n", 1) for _ in range(300)))
    counting.start()
    for _ in range(20):
        assert cable.made.acquire(timeout=LONG_S)
        cable.break_off()
    counting.join(LONG_S)

    assert (list(range(1, 301)), 300) == (counts, host.add("n", 0))


def test_a_wait_outlasts_a_broken_connection(cable, guest, host):
    """Also one whose key came while there was none."""
    told = []
    waiting = threading.Thread(target=lambda: told.append(guest.wait(["k"], LONG_S)))
    waiting.start()
    guest.set({"is": b"here"})
    cable.break_off()
    host.set({"k": b"v"})
    waiting.join(LONG_S)

    assert [[b"v"]] == told


def test_who_comes_back_in_time_is_not_gone(cable, patient_guest, host):
    """Its will is kept for later."""
    leave_will(patient_guest, GONE)
    patient_guest.set({"is": b"here"})
    cable.is_down = True
    cable.break_off()
    verdict = host.wait(["verdict"], 0.5)
    cable.is_down = False

    assert verdict is None
    assert [b"here"] == patient_guest.get(["is"])
    assert [None, None] == host.get(["beat", "verdict"])


@pytest.mark.parametrize(
    ("grace_s", "dial_s", "expected_ms"),
    [(0.15, 0.002, 150), (0.15, 0.04, 400), (0.15, 9.0, 2000), (5.0, 0.04, 5000), (3e8, 0, 60_000)],
)
def test_who_connects_slowly_has_more_time_to_come_back(grace_s, dial_s, expected_ms):
    """Ten times what connecting took, within bounds."""
    mine, its = socket.socketpair()
    line = Line(Link(mine), "there", LONG_S, lambda _: Refusal("", ""), grace_s, dial_s)
    line.leave_will(GONE)
    sent = its.recv(1 << 16)
    line.close()
    its.close()

    assert b'"after_ms":%d,' % expected_ms in sent


def test_who_stays_away_is_gone_and_may_come_back_later(cable, guest, host):
    """Its session is still known."""
    leave_will(guest, GONE)
    guest.set({"is": b"here"})
    cable.is_down = True
    cable.break_off()
    verdict = host.wait(["verdict", "beat"], LONG_S)
    cable.is_down = False

    assert [b"lost", b"gone"] == verdict
    assert [b"here"] == guest.get(["is"])


def test_who_leaves_with_a_word_has_left_no_will(guest, host):
    """An agent that ends as it should is not missed."""
    leave_will(guest, GONE)
    guest.set({"is": b"here"})
    guest.close()
    other = host.wait(["verdict"], 0.3)

    assert other is None


def test_a_member_that_has_succeeded_ends_nothing(cable, guest, host):
    """Its beat is still told to be over."""
    leave_will(guest, GONE)
    guest.set({"success": b"1"})
    cable.is_down = True
    cable.break_off()

    assert [b"gone"] == host.wait(["beat"], LONG_S)
    assert [None] == host.get(["verdict"])


def test_a_will_of_a_job_with_a_secret_is_signed(cable, guest, host):
    """The others would refuse it otherwise."""
    secret = Secret(b"open sesame")
    key = RunKeys("run").round(0).beat(1)
    leave_will(SignedStore(guest, secret), Will({key: b"gone"}, {"verdict": b"lost"}, ()))
    guest.set({"is": b"here"})
    cable.is_down = True
    cable.break_off()

    assert [b"lost", b"gone"] == SignedStore(host, secret).wait(["verdict", key], LONG_S)


def test_a_server_that_is_gone_is_lost_at_once(host):
    """Nobody listens at its port any more: there is nothing to wait for."""
    connect = StoreConnector(Endpoint(HERE, host.port), False, None, LONG_S)
    guest = connect(threading.Event()).store
    host.close()

    with pytest.raises(RendezvousConnectionError, match="its host has closed the connection"):
        guest.wait(["k"], LONG_S)
    guest.close()


def test_a_session_of_another_server_is_refused(host):
    """A store that has begun anew knows nothing of what its clients wrote."""
    from elrun.rendezvous.stores.server.dial import Target, dial

    hello = Hello("", "a", session="c0ffee", resumes=True)
    answer = dial(Target(Endpoint(HERE, host.port)), hello, LONG_S, LONG_S)

    assert isinstance(answer, Refusal)
    assert UNKNOWN_SESSION == answer.kind


KILLED = """
import sys, threading
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.store import Will, leave_will
connect = StoreConnector(Endpoint("127.0.0.1", int(sys.argv[1])), False, None, 30)
store = connect(threading.Event()).store
leave_will(store, Will({}, {"verdict": b"lost"}, ()))
store.set({"here": b"1"})
threading.Event().wait()
"""


@pytest.mark.integration
def test_a_killed_process_is_known_to_be_gone(host):
    """By its kernel, which ends its connections."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(host.port)]) as process:
        assert host.wait(["here"], LONG_S)
        os.kill(process.pid, signal.SIGKILL)

        assert [b"lost"] == host.wait(["verdict"], LONG_S)


def test_a_silent_server_is_told_of_and_so_is_its_answer(caplog):
    """People learn what their job waits for."""
    mine, its = socket.socketpair()
    client = StoreClient(Line(Link(mine), "there", LONG_S))
    client._line._calls.report_silence("")
    client._line._calls.report_silence("")
    asking = threading.Thread(target=client.add, args=("n", 1))
    asking.start()
    its.recv(1 << 16)
    its.sendall(b'\0\0\0\x12{"id":1,"count":1}')
    asking.join(LONG_S)
    client.close()
    its.close()

    silent, answers_again = caplog.messages
    assert silent == (
        "the rendezvous store at there does not answer; it is waited for up to 30 s "
        "(--rdzv-conf store_patience=...)"
    )
    assert answers_again == "the rendezvous store at there answers again"


class UnheardLink(Link):
    """A connection over which nothing arrives, and which does not end."""

    def probe(self):
        return True


class HeardAgainLink(Link):
    """One whose host acknowledges again, after a while: the answer is still not there."""

    are_unheard = (True, True)

    def probe(self):
        first, *self.are_unheard = *self.are_unheard, False
        return first


def known_at(host):
    """Return how to come back to a server, which knows the session."""
    me = Hello(name_of_run(""), "me", session="5e55")
    target = Target(Endpoint(HERE, host.port))
    dial(target, me, LONG_S, LONG_S).close()
    again = me._replace(resumes=True)
    return lambda within_s: dial(target, again, within_s, within_s)


def test_a_connection_that_is_dead_without_an_end_is_replaced(host):
    """TCP would try it again ever more rarely: another connection goes on with the session."""
    dead, far_end = socket.socketpair()
    line = Line(UnheardLink(dead), "there", patience_s=LONG_S, redial=known_at(host))
    line._notice_s = 0.0
    client = StoreClient(line)

    counts = [client.add("n", 1), client.add("n", 1)]

    assert [1, 2] == counts
    assert b"" != far_end.recv(1 << 16)  # it was tried there first
    client.close()
    far_end.close()


def test_a_connection_whose_host_is_heard_again_is_replaced(host):
    """The server's kernel may repeat a lost answer only half a minute after the cut."""
    stuck, far_end = socket.socketpair()
    come_back = known_at(host)
    attempts = [lambda _: Unreached("it does not answer")] * 2 + [come_back]

    def redial(within_s):
        return attempts.pop(0)(within_s)

    line = Line(HeardAgainLink(stuck), "there", patience_s=LONG_S, redial=redial)
    line._notice_s = 0.0
    client = StoreClient(line)

    assert 1 == client.add("n", 1)

    client.close()
    far_end.close()


def test_a_fault_in_a_dial_beside_a_dead_connection_ends_its_calls(shown_faults):
    """The caller would wait as long as the server may be silent, and not learn why."""
    dead, far_end = socket.socketpair()
    line = Line(UnheardLink(dead), "there", patience_s=LONG_S, redial=lambda _: 1 / 0)
    line._notice_s = 0.0
    client = StoreClient(line)

    with pytest.raises(RendezvousConnectionError, match="was lost: a fault in its reader"):
        client.add("n", 1)

    assert [ZeroDivisionError] == shown_faults()
    client.close()
    far_end.close()


def test_a_server_that_stands_still_after_a_cut_is_dialled_a_few_times():
    """Its kernel takes connections that it would all find when it goes on."""
    dials = []

    def redial(_):
        dials.append(1)
        return Unreached("a connection is accepted there, and no store server answers")

    stuck, far_end = socket.socketpair()
    line = Line(HeardAgainLink(stuck), "there", patience_s=0.5, redial=redial)
    client = StoreClient(line)

    with pytest.raises(RendezvousConnectionError, match="it has not answered for"):
        client.add("n", 1)

    assert 4 == len(dials)  # one before it is heard again, and three afterwards
    client.close()
    far_end.close()


def test_a_server_that_acknowledges_is_not_dialled():
    """One that stands still would find thousands of new connections when it goes on."""
    dials = []
    with socket.create_server((HERE, 0)) as still:
        mine = socket.create_connection(still.getsockname())
        line = Line(Link(mine), "there", patience_s=3.0, redial=dials.append)
        client = StoreClient(line)

        with pytest.raises(RendezvousConnectionError, match="it has not answered for"):
            client.add("n", 1)

        assert [] == dials
        client.close()


def test_what_answers_in_the_servers_place_is_told(caplog):
    """A load balancer accepts connections though the store behind it has gone: that is told."""
    mine, its = socket.socketpair()
    with socket.create_server((HERE, 0)) as balancer:
        threading.Thread(target=accept_and_close, args=(balancer,), daemon=True).start()
        target = Target(Endpoint(HERE, balancer.getsockname()[1]))

        def redial(_):
            return dial(target, Hello("job", "me"), LONG_S, LONG_S)

        client = StoreClient(Line(Link(mine), "there", patience_s=0.5, redial=redial))
        its.close()
        with pytest.raises(RendezvousConnectionError) as lost:
            client.wait(["key"], None)
        client.close()

    instead = (
        ": connections are accepted there and closed without an answer, as by a proxy or load "
        "balancer whose store is gone"
    )
    silence, *_ = caplog.messages
    assert f"the rendezvous store at there does not answer{instead}; it is waited for" in silence
    assert str(lost.value).endswith(f" was not made anew in 0.5 s{instead}")


def accept_and_close(listener):
    with contextlib.suppress(OSError):  # the test is over
        while True:
            listener.accept()[0].close()


def test_a_client_without_a_thread_lets_its_server_go(host, monkeypatch):
    """Its connection does not stay open."""
    host.add("n", 1)  # has the thread that reads for it
    before = len(os.listdir("/proc/self/fd"))
    connect = StoreConnector(Endpoint(HERE, host.port), False, None, LONG_S)

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        store = connect(threading.Event()).store
        with pytest.raises(NoThreadError):
            store.add("n", 1)
        store.close()

    while before < len(os.listdir("/proc/self/fd")):  # until the server, too, has let go
        host.add("n", 1)


def test_a_connection_that_was_made_anew_without_a_thread_hears_what_it_waits_for(
    host, monkeypatch
):
    """The loop's thread repeats the wait over it, and reads the answer."""
    mine, its = socket.socketpair()
    attempts, told, reach = [], [], known_at(host)

    def redial(within_s):
        attempts.append(within_s)
        return Unreached("it is away") if len(attempts) < 3 else reach(within_s)

    def start(thread):
        raise RuntimeError("can't start new thread")

    loop = Loop()
    loop.enter()
    host.add("n", 1)  # has the thread that reads for it
    client = StoreClient(Line(Link(mine), "there", LONG_S, redial))
    read_by(client, loop)
    client.watch(["k"], told.append)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        its.close()
        while len(attempts) < 3:
            loop.turn(LONG_S)
    host.set({"k": b"v"})
    while not told:
        loop.turn(LONG_S)
    client.close()
    loop.close()

    assert ([[b"v"]], 3) == (told, len(attempts))


def test_without_a_thread_a_connection_is_made_anew_in_short_attempts(host, monkeypatch):
    """The loop's thread makes them, and reads its other connections in between."""
    host.add("n", 1)  # has the thread that reads for it
    mine, its = socket.socketpair()
    attempts, heard, told = [], [], []

    def redial(within_s):
        attempts.append(within_s)
        host.set({"tried": b"1"})
        return Unreached("it is away") if len(attempts) < 3 else Refusal("", "")

    def start(thread):
        raise RuntimeError("can't start new thread")

    loop = Loop()
    loop.enter()
    client = StoreClient(Line(Link(mine), "there", LONG_S, redial))
    other = StoreConnector(Endpoint(HERE, host.port), False, None, LONG_S)(threading.Event()).store
    for store in (client, other):
        read_by(store, loop)
    other.watch(["tried"], lambda _: heard.append(len(attempts)))
    client.watch(["k"], told.append)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        its.close()
        while not told:
            loop.turn(LONG_S)
    client.close()
    other.close()
    loop.close()

    assert isinstance(told[0], RendezvousConnectionError)
    assert len(attempts) == 3
    assert max(attempts) < 1
    assert heard[0] < 3


def test_without_a_thread_a_broken_connection_comes_back(cable, guest, host, monkeypatch):
    """What was waited for is heard over the new one, and no write happens twice."""
    host.add("n", 0)  # has the thread that reads for it
    loop, told, begin = Loop(), [], threading.Thread.start
    loop.enter()
    read_by(guest, loop)
    guest.add("n", 1)
    guest.watch(["k"], told.append)

    def start(thread):
        if thread.name.startswith("elrun"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        cable.break_off()
        host.set({"k": b"1"})
        while not told:
            loop.turn(LONG_S)
    counted = guest.add("n", 1)
    guest.close()
    loop.close()

    assert ([[b"1"]], 2) == (told, counted)


@pytest.mark.parametrize("started", [0, 1, 2], ids=["none", "the server's", "both"])
def test_a_host_without_threads_leaves_nothing_open(monkeypatch, started):
    """Neither its server nor its client holds a descriptor; the client begins with a request."""
    start, threads = threading.Thread.start, []

    def start_some(thread):
        if len(threads) == started:
            raise RuntimeError("can't start new thread")
        threads.append(thread)
        start(thread)

    def work():
        store = host_store(AllGuests(), Hello("run", "a"), "here", "here", LONG_S)[1]
        try:
            return store.add("n", 1)
        finally:
            store.close()

    before = {*os.listdir("/proc/self/fd")}
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_some)
        if started < 2:
            with pytest.raises(NoThreadError):
                work()
        else:
            assert work() == 1

    assert {*os.listdir("/proc/self/fd")} <= before  # another test's may have been collected


# What the server remembers, without a socket.


@pytest.fixture(name="sessions")
def _sessions():
    return Sessions(keeps_s=10)


def carried_out(answers, session, number, request):
    """Return the bytes of the answer."""
    return b"".join(answers.answer(session, number, request))


@pytest.mark.parametrize("request_", [Add("k", 2), Create("k", b"v", b""), Set({"k": b"v"})])
def test_a_repeated_write_is_answered_as_the_first_time(sessions, request_):
    """Whatever others have written meanwhile, and that stands."""
    answers = Answers(max_waits=4)
    session, other = sessions.begin("a", "host"), sessions.begin("b", "host")
    first = carried_out(answers, session, 1, request_)
    answers.answer(other, 1, Set({"k": b"77"}))
    again = carried_out(answers, session, 1, request_)
    value = carried_out(answers, other, 2, Get(("k",)))

    assert first == again
    assert b'"Nzc="' in value


def test_a_repeated_write_reads_what_is_there_by_now(sessions):
    """Its values are not written again: another client has replaced them."""
    answers = Answers(max_waits=4)
    session, other = sessions.begin("a", "host"), sessions.begin("b", "host")
    beat = Set({"mine": b"1"}, ("mine", "none"))
    first = carried_out(answers, session, 1, beat)
    answers.answer(other, 1, Set({"mine": b"77"}))
    again = carried_out(answers, session, 1, beat)

    assert (True, True) == (b'"values":["MQ==",null]' in first, b'["Nzc=",null]' in again)


def test_a_write_that_is_new_after_a_break_is_carried_out(sessions):
    """Numbers only grow."""
    answers = Answers(max_waits=4)
    session = sessions.begin("a", "host")
    answers.answer(session, 1, Add("k", 1))
    answers.answer(session, 1, Add("k", 1))
    count = carried_out(answers, session, 2, Add("k", 1))

    assert count.endswith(b'{"id":2,"count":2}')


def test_what_is_remembered_is_bounded(sessions):
    """A client that repeats more than it may is told so."""
    answers = Answers(max_waits=4)
    session = sessions.begin("a", "host")
    for number in range(MOST_OUTCOMES + 1):
        answers.answer(session, number, Add("k", 1))
    forgotten = carried_out(answers, session, 0, Add("k", 1))
    known = carried_out(answers, session, 1, Add("k", 1))

    assert (True, True) == (b"error" in forgotten, b'"count":2' in known)


def test_waits_without_a_connection_cost_nothing(sessions):
    """The client asks for them again if it comes back."""
    answers = Answers(max_waits=1)
    session = sessions.begin("a", "host")
    answers.answer(session, 1, Wait(("k",)))
    answers.leave(session)
    answers.answer(sessions.begin("b", "host"), 1, Set({"k": b"v"}))
    ended = [*filter(None, answers.work())]
    value = carried_out(answers, session, 1, Wait(("k",)))

    assert ([], True) == (ended, b'"dg=="' in value)


def test_a_will_waits_until_the_client_may_have_been_heard(sessions):
    """The server may have stood still: then the client's hello is there, and not read yet."""
    session = sessions.begin("a", "host")
    session.will = LeaveWill(GONE, 150)
    sessions.break_off(session, now=0)
    too_early = sessions.take_due_wills(0.1)
    turns = [sessions.take_due_wills(5) for _ in range(4)]

    assert ([], [[], [], [], [GONE]]) == (too_early, turns)
    assert 5 == sessions.changes_in_s(5)


def test_a_client_that_can_not_come_back_is_gone_at_once(sessions):
    """It has named no session."""
    session = sessions.begin("", "host")
    session.will = LeaveWill(GONE, 150)
    sessions.break_off(session, now=0)

    assert [GONE] == sessions.take_due_wills(0)
    assert sessions.changes_in_s(0) is None


def test_a_session_is_forgotten_after_a_while(sessions):
    """Or when its client says goodbye."""
    names = ("a", "b", "c")
    away, gone, here = (sessions.begin(name, "host") for name in names)
    for session in (away, gone):
        sessions.break_off(session, now=0)
    sessions.end(gone)
    sessions.take_due_wills(10)

    assert [None, None, here] == [sessions.find(name) for name in names]


def test_a_client_that_is_back_is_not_due_by_an_earlier_break(sessions):
    """Of several breaks the last one counts, also where it began later and is due earlier."""
    session = sessions.begin("a", "host")
    session.will = LeaveWill(GONE, 4000)
    sessions.break_off(session, now=0)
    sessions.connect(session, 1)
    back = sessions.changes_in_s(0)
    session.will = LeaveWill(GONE, 1000)
    sessions.break_off(session, now=1)

    assert (None, 1) == (back, sessions.changes_in_s(1))
    assert [[], [], [], [GONE]] == [sessions.take_due_wills(2) for _ in range(4)]
    assert 9 == sessions.changes_in_s(2)


def test_connections_that_break_again_and_again_leave_nothing_behind(sessions):
    """A client on a bad line costs what any other one does."""
    session = sessions.begin("a", "host")
    session.will = LeaveWill(GONE, 60_000)
    for now in range(5000):
        sessions.break_off(session, now=now / 1000)
        sessions.connect(session, now)

    assert len(sessions._dues) < 2000
    assert sessions.changes_in_s(5) is None
