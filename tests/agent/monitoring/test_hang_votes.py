"""Nodes agree on a hang: only if no rank of any node goes on."""

import threading

import pytest
from elrun.agent.monitoring.hang_votes import Answer, Votes, decision_about
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.torch_view import RoundStore

WAITS, LOADS = "in all_reduce (t.py:1)", "in load (t.py:9)"


@pytest.fixture(name="nodes")
def _nodes():
    """Three nodes' votes over one store; each answers when it is asked."""
    store = RoundStore(MemoryStore(), "round/")
    nodes = []
    for rank in range(3):
        has_come = threading.Event()
        votes = Votes(store, rank, 3, has_come.set)

        def ask(clauses, *, is_beating=False, votes=votes, has_come=has_come):
            votes.ask(clauses, is_beating=is_beating)
            assert has_come.wait(30)
            has_come.clear()
            return votes.take()

        nodes.append(ask)
    return nodes


def test_all_nodes_have_to_be_still(nodes):
    """Group rank 0 decides, once the last one is counted in; then all get to know it."""
    first, second, third = nodes
    answers = [first({0: WAITS}), second({1: LOADS}), second({1: LOADS}), third(None)]
    assert [Answer()] * 4 == answers

    assert Answer() == third({2: WAITS})
    told = [first({0: WAITS}), second({1: LOADS}), third({2: WAITS})]
    assert [Answer(odd=1, text=f"ranks 0, 2 {WAITS}; rank 1 {LOADS}")] * 3 == told


def test_a_node_that_goes_on_is_counted_out(nodes):
    """However often it has been in before."""
    first, second, third = nodes
    for clauses in ({1: WAITS}, None, None, {1: WAITS}, {1: WAITS}, None):
        second(clauses)

    assert [Answer()] * 3 == [third({2: WAITS}), first({0: WAITS}), first({0: WAITS})]


def test_nodes_learn_that_workers_of_another_one_beat(nodes):
    """A beat is then the only sign of life, on all nodes."""
    first, second, _ = nodes
    before = first(None)
    second(None, is_beating=True)
    second(None, is_beating=True)

    assert [False, True] == [before.others_beat, first(None).others_beat]


def test_nodes_without_ranks_that_run_name_none():
    """Their workers have all succeeded: they wait for others."""
    assert Answer() == decision_about({})


def test_a_lost_store_is_no_answer():
    """The agent's loop finds it lost as well."""

    class Lost:
        def add(self, *_):
            raise RendezvousConnectionError("it is gone")

    has_come = threading.Event()
    votes = Votes(Lost(), 0, 2, has_come.set)
    before = votes.take()
    votes.ask(None, is_beating=False)
    assert has_come.wait(30)

    assert [Answer()] * 2 == [before, votes.take()]
