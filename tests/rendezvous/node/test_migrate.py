"""What a node brings along to another store, and what it leaves alone there."""

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.node.finish import finish
from elrun.rendezvous.node.migrate import migrate_round
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import History, Limits, Member, Node, Roster
from elrun.rendezvous.protocol.wire import write_verdict
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.steps import Asking, perform

RUN = RunKeys("run")
LIMITS = Limits(1, 2)
MEMBERS = tuple(Member(seat, Node("host", "::1", 9, 1, "default", LIMITS)) for seat in range(2))
LAST_ROUND = History(Roster(3, 0, 0, LIMITS, MEMBERS), Verdict(VerdictKind.NODE_LOST))


class Others:
    """The others of the last round, who go on as long as nobody disturbs them."""

    def await_own_verdict(self, store, keys, roster, rank):
        assert (LAST_ROUND.roster, 1) == (roster, rank)
        verdict = write_verdict(Verdict(VerdictKind.WORKER_FAILED, 0))
        yield store.create(keys.verdict, verdict)


@pytest.mark.parametrize(("forming", "is_brought"), [(3, False), (4, True), (5, False)])
def test_only_the_round_before_the_forming_one_is_brought_along(forming, is_brought):
    """Whoever missed a later round would sit down in that one, whose roster stands already."""
    standing = perform(migrate_round(Asking(MemoryStore()), RUN, LAST_ROUND, forming, 1, Others()))

    assert (LAST_ROUND.verdict if is_brought else None) == standing


@pytest.mark.parametrize(
    ("finished", "kind"),
    [
        ((), VerdictKind.NODE_LOST),
        ((0,), VerdictKind.NODE_LOST),
        ((1,), VerdictKind.WORKER_FAILED),
        ((0, 1), VerdictKind.DONE),
    ],
)
def test_a_node_that_had_finished_ends_no_round_in_which_others_work(finished, kind):
    """It lost its connection only: they need nothing of it but its mark, which is there."""
    store, keys = Asking(MemoryStore()), RUN.round(3)
    for rank in finished:
        perform(finish(store, keys, rank, 2))

    assert kind == perform(migrate_round(store, RUN, LAST_ROUND, 4, 1, Others())).kind
