"""What a secret protects, and from whom."""

import threading

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.node.store_session import enter_run
from elrun.rendezvous.protocol.keys import UNSURE_BEAT, RunKeys
from elrun.rendezvous.protocol.wire import write_forming, write_verdict
from elrun.rendezvous.stores.signed import Secret, SignedStore, secret_of
from elrun.rendezvous.stores.steps import Asking, perform
from round_kit import silence

PATIENCE_S = 30
RUN = RunKeys("run")
OURS, THEIRS = b"open sesame", b"please"


@pytest.fixture(name="store")
def _store(memory):
    return SignedStore(memory.connect(), Secret(OURS))


def parameters(**config):
    return RendezvousParameters("memory", "", "run", 1, 1, **config)


def test_a_signature_covers_key_and_value():
    """The same for ever: nodes of one version must understand each other."""
    signed = Secret(b"key").sign("a/b", b"value")

    assert b"signed 17538c25340698df" == signed[:23]
    assert b" value" == signed[-6:]
    assert b"value" == Secret(b"key").verify("a/b", signed)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("k", b"value"),
        ("k", b""),
        ("k", b"signed "),
        ("k", b"signed " + 64 * b"0" + b" value"),
        ("k", Secret(THEIRS).sign("k", b"value")),
        ("k", Secret(OURS).sign("run/1/k", b"value")),
        ("ka", Secret(OURS).sign("k", b"avalue")),
        ("k", Secret(OURS).sign("k", b"value") + b" and more"),
    ],
)
def test_what_does_not_verify_counts_as_missing(store, memory, caplog, key, data):
    """Nor does a true record count that was copied to another key; a warning names the key."""
    memory.set({key: data})

    assert [None] == store.get([key])
    assert f"{key}: a record that isn't signed" in caplog.text


def test_a_forgery_is_told_of_once(store, memory, caplog):
    """Who floods the store does not flood the log."""
    memory.set({"k": b"forged"})
    for _ in range(3):
        store.get(["k"])

    assert 1 == len(caplog.records)


def test_create_takes_the_place_of_a_forgery(store, memory):
    """A stranger who was first has won nothing."""
    memory.set({"k": b"forged"})

    assert b"true" == store.create("k", b"true")
    assert [b"true"] == store.get(["k"])


def test_create_gives_up_on_a_stranger_who_never_does(store, memory):
    """It doesn't go round for ever."""

    class Busy:
        def create(self, *_):
            memory.add("forgeries", 1)
            return b"%s th forgery" % memory.get(["forgeries"])[0]

    with pytest.raises(RendezvousStateError, match="keeps writing"):
        SignedStore(Busy(), Secret(OURS)).create("k", b"true")


def test_a_wait_goes_on_past_a_forgery(store, memory):
    """It ends with the true value, however the key was filled before."""
    memory.set({"k": b"forged"})
    looked = threading.Event()

    class Watched:
        def wait(self, keys, timeout_s):
            found = memory.wait(keys, timeout_s)
            looked.set()
            return found

    waiting = SignedStore(Watched(), Secret(OURS))
    found = []
    thread = threading.Thread(target=lambda: found.extend(waiting.wait(["k"], PATIENCE_S)))
    thread.start()
    assert looked.wait(PATIENCE_S)
    store.set({"k": b"true"})
    thread.join(PATIENCE_S)

    assert [b"true"] == found


def test_a_wait_for_a_forgery_has_its_end(store, memory):
    """The time-out holds."""
    memory.set({"k": b"forged"})

    assert store.wait(["k"], 0.01) is None


def test_the_secret_is_in_no_text():
    """Not in a log line, nor in an error's repr."""
    params = parameters(secret=Secret(OURS))

    assert "sesame" not in f"{params.config} {secret_of(params)!r} {Secret(OURS)}"


def test_the_secret_is_what_the_file_says(tmp_path):
    """Less the white space that editors leave."""
    path = tmp_path / "secret"
    path.write_bytes(b" open sesame\r\n")
    secret = secret_of(parameters(secret_file=str(path)))

    assert Secret(OURS).sign("k", b"v") == secret.sign("k", b"v")


def test_a_job_needs_no_secret():
    """Nothing is signed unless asked for."""
    assert secret_of(parameters()) is None


def test_a_secret_file_that_is_not_there_is_named(tmp_path):
    """With the system's own words."""
    with pytest.raises(ValueError, match=r"secret_file=/.*none: .*No such file"):
        secret_of(parameters(secret_file=str(tmp_path / "none")))


def test_an_empty_secret_file_is_refused(tmp_path):
    """It would let everybody in."""
    (tmp_path / "empty").write_bytes(b"\n")
    with pytest.raises(ValueError, match="it is empty"):
        secret_of(parameters(secret_file=str(tmp_path / "empty")))


def test_a_secret_on_the_command_line_is_refused():
    """It would show in ``ps``."""
    with pytest.raises(ValueError, match="every user of this host could read it"):
        secret_of(parameters(secret="open sesame"))


@pytest.mark.parametrize(
    ("theirs", "mine", "sentence"),
    [
        (Secret(OURS), None, "takes only nodes that know its secret"),
        (Secret(OURS), Secret(THEIRS), "has another secret than this node"),
        (None, Secret(OURS), "was started without a secret"),
    ],
)
def test_who_has_another_secret_is_refused_at_once(memory, theirs, mine, sentence):
    """The sentence says what to do, and nothing was changed."""
    perform(enter_run(Asking(memory), RUN, theirs))
    before = memory.get([RUN.record])
    with pytest.raises(RendezvousStateError, match=f"run 'run' {sentence}.*secret_file="):
        perform(enter_run(Asking(memory), RUN, mine))

    assert before == memory.get([RUN.record])


def test_who_has_the_same_secret_learns_which_round_forms(memory):
    """That is all the record says."""
    perform(enter_run(Asking(memory), RUN, Secret(OURS)))
    memory.set({RUN.record: Secret(OURS).sign(RUN.record, write_forming(7))})

    assert 7 == perform(enter_run(Asking(memory), RUN, Secret(OURS)))


def test_another_version_of_the_protocol_is_refused_by_name(memory):
    """Both versions stand in the sentence."""
    memory.set({RUN.record: b'{"elrun":2,"kind":"run","forming":0}'})
    with pytest.raises(RendezvousStateError, match="protocol version 2, this one speaks 1"):
        perform(enter_run(Asking(memory), RUN, None))


def test_nodes_that_share_a_secret_meet(job):
    """Over every store, as without."""
    places = job.rendezvous(job.some(3, (3, 3), secret=OURS))

    assert [0, 1, 2] == sorted(place.group_rank for place in places)


def test_a_stranger_touches_nothing_of_the_round(memory_job, memory):
    """It is refused before it takes a seat, so those who know the secret aren't even delayed."""
    first = memory_job.node(secret=OURS).join()
    assert memory.wait([RUN.round(0).node(0)], PATIENCE_S)
    stranger = memory_job.node(secret=THEIRS)
    with pytest.raises(RendezvousStateError):
        stranger.handler.next_rendezvous()
    second = memory_job.node(secret=OURS).join()

    assert {0, 1} == {each.result(PATIENCE_S).rank for each in (first, second)}
    assert [b"1000002"] == memory.get([RUN.round(0).seats])


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(lambda data: data, id="unsigned"),
        pytest.param(lambda data: Secret(THEIRS).sign(RUN.round(0).verdict, data), id="theirs"),
        pytest.param(lambda data: Secret(OURS).sign(RUN.round(1).verdict, data), id="replayed"),
    ],
)
def test_a_forged_verdict_ends_nothing(memory_job, memory, forged):
    """The one that a member writes stands in its place, for all."""
    one, other = memory_job.some(2, secret=OURS)
    memory_job.rendezvous([one, other])
    memory.set({RUN.round(0).verdict: forged(write_verdict(Verdict(VerdictKind.ABORTED)))})
    failed = one.handler.conclude(Verdict(VerdictKind.WORKER_FAILED, 0, "rank 0 failed"))

    assert VerdictKind.WORKER_FAILED == failed.kind
    assert failed == other.await_verdict()


TURNED = [b"junk", b"", b"0", b"1", b"-7", b"40", b"500000", b"9" * 30]


@pytest.mark.parametrize("turned", TURNED)
def test_who_turns_the_counter_of_seats_gives_nobody_the_seat_of_another(
    memory_job, memory, turned
):
    """Both meet all the same: a seat is who has created the record on it."""
    lively = {"heartbeat_s": 0.02, "patience_s": 0.1, "deputy_s": 0.02, "straggler_s": 0.1}
    first = memory_job.node(secret=OURS, **lively).join()
    assert memory.wait([RUN.round(0).node(0)], PATIENCE_S)
    memory.set({RUN.round(0).seats: turned})
    second = memory_job.node(secret=OURS, **lively).join()

    places = [each.result(PATIENCE_S).placement for each in (first, second)]
    assert [0, 1] == sorted(place.group_rank for place in places)
    assert 1 == len({place.round for place in places})


@pytest.mark.parametrize("turned", TURNED)
def test_counters_that_are_turned_while_workers_run_end_nothing(memory_job, memory, turned):
    """Those that run fail, restart and finish; what stood there is nobody's concern."""
    lively = {"heartbeat_s": 0.02, "patience_s": 0.2, "deputy_s": 0.02, "straggler_s": 0.1}
    nodes = memory_job.some(2, secret=OURS, max_restarts=1, **lively)
    memory_job.rendezvous(nodes)
    counters = [*(RUN.round(n).seats for n in (0, 1)), f"{RUN.round(0).prefix}/finished"]
    memory.set(dict.fromkeys(counters, turned))
    nodes[0].handler.conclude(Verdict(VerdictKind.WORKER_FAILED, 0, "rank 0 failed"))
    nodes[1].await_verdict()
    memory_job.rendezvous(nodes)
    for node in nodes:
        node.handler.arrive()

    assert [VerdictKind.DONE] * 2 == [node.await_verdict().kind for node in nodes]


@pytest.mark.parametrize("junk", [b"junk", b"", b"[1]", b"\x80"])
def test_junk_in_place_of_the_runs_record_keeps_nobody_out(memory_job, memory, junk):
    """It was no elrun that wrote it, so there is nothing to be told apart from."""
    memory.set({RUN.record: junk})

    places = memory_job.rendezvous(memory_job.some(2, secret=OURS))
    assert [0, 1] == sorted(place.group_rank for place in places)


BEAT = RUN.round(0).beat(1)


@pytest.mark.parametrize("forged", [b"junk", Secret(THEIRS).sign(BEAT, b"7")])
def test_a_beat_that_is_written_over_is_read_where_only_friends_look(store, memory, forged):
    """A stranger who knows the protocol knows the first key, and not the second."""
    store.set({BEAT: b"7"})
    memory.set({BEAT: forged})

    assert [b"7"] == store.get([BEAT])


def test_a_beat_that_is_written_over_everywhere_is_neither_life_nor_silence(store, memory):
    """Somebody has listed the keys: nobody can know how the node is."""
    store.set({BEAT: b"7"})
    memory.set(dict.fromkeys([BEAT, Secret(OURS).second_key(BEAT)], b"junk"))

    assert [UNSURE_BEAT] == store.get([BEAT])


def test_a_beat_that_is_not_there_is_none(store):
    """As without a secret."""
    assert [None] == store.get([BEAT])


class Flood:
    """A stranger who writes over some keys for as long as this lasts."""

    def __init__(self, memory, keys):
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(memory.connect(), keys))

    def _run(self, store, keys):
        number = 0
        while not self._is_over.wait(0.001):
            number += 1
            store.set(dict.fromkeys(keys, b"junk %d" % number))

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


def test_who_floods_the_beats_of_nodes_throws_none_out(memory_job, memory):
    """They run on for many times the patience."""
    lively = {"heartbeat_s": 0.02, "patience_s": 0.2}
    nodes = memory_job.some(3, (3, 3), secret=OURS, **lively)
    memory_job.rendezvous(nodes)
    with Flood(memory, [RUN.round(0).beat(rank) for rank in range(3)]):
        is_over = nodes[0].changed.wait(2.0)

    assert (False, [None] * 3) == (is_over, [node.handler.verdict() for node in nodes])


def test_a_node_that_dies_is_missed_although_its_beat_is_flooded(memory_job, memory):
    """A stranger can't keep it alive by junk."""
    lively = {"heartbeat_s": 0.02, "patience_s": 0.2}
    nodes = memory_job.some(3, (3, 3), secret=OURS, **lively)
    memory_job.rendezvous(nodes)
    with Flood(memory, [RUN.round(0).beat(rank) for rank in range(3)]):
        silence(nodes[2].handler)
        verdict = nodes[0].await_verdict()

    assert (VerdictKind.NODE_LOST, 1) == (verdict.kind, len(verdict.lost))
