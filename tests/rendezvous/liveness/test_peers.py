"""What the node that seals makes of silence: silent seats have left, silent survivors are lost."""

from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.liveness.peers import check_presence
from elrun.rendezvous.liveness.round_watch import silence_reason
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import History, Limits, Member, Node, Origin, Roster
from elrun.rendezvous.protocol.roster import draw_roster, restarts_after

RUN = RunKeys("run")


def node(host, origin=None):
    return Node(host, "::1", 1, 1, "default", Limits(1, 3), origin and Origin(*origin))


def history(*hosts, kind=VerdictKind.WORKER_FAILED, lost=()):
    members = tuple(Member(seat, node(host)) for seat, host in enumerate(hosts))
    return History(Roster(0, 0, 0, Limits(1, 3), members), Verdict(kind, lost=lost))


class FakeHeartbeat:
    """A heartbeat with the silence that a test wants."""

    def __init__(self, *silent):
        self._silent = frozenset(silent)
        self.watched = []

    def watch(self, keys):
        self.watched = sorted(keys)

    def silent(self):
        return self._silent & set(self.watched)


KEYS = RUN.round(1)
BEFORE = RUN.round(0)


def test_the_sealer_watched_all_that_count():
    """To the others that sit there, and to survivors that have not come."""
    heartbeat = FakeHeartbeat()
    seated = {0: node("a", (0, 0)), 1: node("d"), 2: node("e")._replace(is_withdrawn=True)}
    alive = check_presence(heartbeat, RUN, 1, 0, seated, history("a", "b", "c", lost=(2,)))

    assert [BEFORE.beat(1), KEYS.seat_beat(1)] == heartbeat.watched
    assert (seated, True) == (alive.seated, alive.may_change_soon)


def test_a_silent_seat_counts_as_left():
    """Its record is there, its node is not."""
    alive = check_presence(
        FakeHeartbeat(KEYS.seat_beat(1)), RUN, 1, 0, {0: node("a"), 1: node("b")}, None
    )

    assert {0: False, 1: True} == {seat: n.is_withdrawn for seat, n in alive.seated.items()}


def test_a_silent_survivor_counts_as_lost():
    """The round need not wait for it."""
    alive = check_presence(
        FakeHeartbeat(BEFORE.beat(1)),
        RUN,
        1,
        0,
        {0: node("a", (0, 0))},
        history("a", "b", "c", lost=(2,)),
    )

    assert ((2, 1), False) == (alive.history.verdict.lost, alive.may_change_soon)


def test_a_failure_that_came_with_a_lost_node_is_free():
    """The peers of a node that dies fail at once."""
    assert 0 == restarts_after(history("a", "b", lost=(1,)))


def test_a_survivor_of_an_earlier_round_goes_after_those_of_the_last():
    """A node that was away must not take the place of one that was there."""
    past = history("a", "b", "c")
    past = past._replace(roster=past.roster._replace(round=3))
    late, *others = [node("d", (1, 0)), *(node(host, (3, n)) for n, host in enumerate("abc"))]
    drawn = draw_roster(4, 0, dict(enumerate([late, *others])), past, mine=Limits(1, 3))

    assert ["a", "b", "c"] == [member.node.host for member in drawn.members]


def test_the_sentence_names_hosts_and_ranks():
    """People look for a machine, not for a number."""
    roster = history("node1", "node2", "node3").roster

    assert "node2 (group rank 1) has not been heard of for 2 s" == silence_reason([1], roster, 2)
    assert "node2 (group rank 1) and node3 (group rank 2) have not been heard of for 2 s" == (
        silence_reason([1, 2], roster, 2)
    )
