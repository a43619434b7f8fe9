"""A node that is so late that the keys of its round were freed comes back as a newcomer."""

import re
import threading

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousGracefulExitError
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.wire import write_forming
from round_kit import PATIENCE_S, Job, failed, placements

RUN = RunKeys("run")
LIMITS = (1, 2)
SENTENCE = "train.py: there is no such script"
TIMES = {"last_call_s": 0.0, "deputy_s": 0.2}


@pytest.fixture(
    params=[
        "server",
        *(pytest.param(name, marks=pytest.mark.integration) for name in ("etcd_v3", "etcd_v2")),
    ],
    name="job",
)
def _job(request):
    job = Job(request.getfixturevalue(request.param).connect)
    yield job
    job.close()


class CutOff:
    """A store whose waits for some key reach nobody while it is cut off."""

    def __init__(self, store, key):
        self._store = store
        self._key = key
        self.is_back = threading.Event()

    def __getattr__(self, name):
        if name in ("watch", "exchange"):
            raise AttributeError(name)
        return getattr(self._store, name)

    def wait(self, keys, timeout_s):
        if self._key in keys:
            assert self.is_back.wait(PATIENCE_S)
        return self._store.wait(keys, timeout_s)


def go_on_alone(node, rounds):
    """Let one node go through some rounds; return the number of the last."""
    number = -1
    for _ in range(rounds):
        node.handler.conclude(failed())
        node.await_verdict()
        (place,) = placements([node.join()])
        number = place.round
    return number


def late_member(job):
    """Return a node that has stayed, and one that was lost long ago and does not know it."""
    store = CutOff(job.connect(), RUN.round(0).verdict)
    stays = job.node(LIMITS, max_restarts=1000)
    late = job.node(LIMITS, max_restarts=1000, store=store)
    joins = [stays.join(), late.join()]
    ranks = [place.group_rank for place in placements(joins)]
    stays.handler.conclude(Verdict(VerdictKind.NODE_LOST, ranks[0], "silent", lost=(ranks[1],)))
    stays.await_verdict()
    placements([stays.join()])
    return stays, late, store


def test_a_member_that_was_cut_off_for_many_rounds_learns_that_it_was_lost(job):
    """Its verdict was freed: it believes neither that it still runs, nor that the store is lost."""
    stays, late, store = late_member(job)
    go_on_alone(stays, ROUNDS_KEPT + 3)
    store.is_back.set()
    verdict = late.await_verdict()
    joining = late.join()
    stays.await_verdict()
    places = placements([stays.join(), joining])

    assert (VerdictKind.NODE_LOST, 1) == (verdict.kind, len(verdict.lost))
    assert re.search("round (0 )?is over", verdict.reason)
    assert [2, 2] == [place.group_world_size for place in places]


def test_what_a_member_says_of_a_round_that_was_freed_changes_nothing(job):
    """Its own verdict comes too late; it hears that it was lost."""
    stays, late, store = late_member(job)
    number = go_on_alone(stays, ROUNDS_KEPT + 3)
    standing = late.handler.conclude(failed(1))
    late.handler.arrive()
    store.is_back.set()

    assert VerdictKind.NODE_LOST is standing.kind
    assert [None] == stays.store.get([RUN.round(0).verdict])
    assert stays.handler.verdict() is None
    assert number > ROUNDS_KEPT


@pytest.mark.parametrize("rounds", [0, ROUNDS_KEPT + 3])
def test_a_lost_member_ends_well_where_the_run_has_ended_well_meanwhile(job, rounds):
    """It took part, and is no node that starts the run again; the others did not need it."""
    stays, late, store = late_member(job)
    go_on_alone(stays, rounds)
    stays.handler.arrive()
    stays.await_verdict()
    store.is_back.set()
    late.await_verdict()

    with pytest.raises(RendezvousGracefulExitError, match="has ended well"):
        late.handler.next_rendezvous()


def test_a_lost_member_learns_why_the_run_has_failed_meanwhile(job):
    """It hears the reason, and not how to start the run again."""
    stays, late, store = late_member(job)
    stays.handler.abort(Verdict(VerdictKind.ABORTED, 0, "no shard is left"))
    store.is_back.set()
    late.await_verdict()

    with pytest.raises(RendezvousClosedError, match="no shard is left\\)$"):
        late.handler.next_rendezvous()


@pytest.mark.parametrize("forming", [0, 1, 5])
def test_a_newcomer_that_is_told_a_freed_round_goes_on_to_the_one_that_forms(job, forming):
    """The run's record may lag behind: a sealer that was held up has written it last."""
    stays = job.node(LIMITS, max_restarts=1000, **TIMES)
    placements([stays.join()])
    go_on_alone(stays, ROUNDS_KEPT + 5)
    stays.store.set({RUN.record: write_forming(forming)})
    newcomer = job.node(LIMITS, max_restarts=1000, **TIMES)
    joining = newcomer.join()
    stays.await_verdict()
    places = placements([stays.join(), joining])

    assert [2, 2] == [place.group_world_size for place in places]
    assert [None] == stays.store.get([RUN.round(forming).seats])


@pytest.mark.parametrize("forming", [0, 1, 5])
def test_a_node_that_declines_goes_on_to_the_round_that_forms(job, forming):
    """It is told a freed round; what it says there would reach nobody."""
    stays = job.node(LIMITS, max_restarts=1000, **TIMES)
    placements([stays.join()])
    number = go_on_alone(stays, ROUNDS_KEPT + 5)
    stays.store.set({RUN.record: write_forming(forming)})
    declines = job.node(LIMITS, **TIMES)
    has_said_so = declines.handler.decline(SENTENCE)
    forms = RUN.round(number + 1)
    (record,) = stays.store.get([forms.node(0)])

    assert (True, True) == (has_said_so, SENTENCE in (record or b"").decode())
    assert go_on_alone(stays, 1) == number + 1


def test_a_run_is_ended_although_its_record_lags_behind(job):
    """By a node that begins to look at a round that was freed."""
    stays = job.node(LIMITS, max_restarts=1000, **TIMES)
    placements([stays.join()])
    go_on_alone(stays, ROUNDS_KEPT + 5)
    other = job.node(LIMITS, max_restarts=1000, **TIMES)
    joining = other.join()
    stays.await_verdict()
    placements([stays.join(), joining])
    stays.handler.conclude(failed())
    stays.await_verdict()
    stays.store.set({RUN.record: write_forming(1)})
    stays.handler.set_closed()

    assert stays.handler.is_closed()
