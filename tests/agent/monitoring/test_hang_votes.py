"""Nodes agree on a hang: only if no rank of any node goes on."""

import threading

import pytest
from elrun.agent.failures.stack_places import Oddness, Standing
from elrun.agent.monitoring.hang_votes import _CHANGE, Answer, Votes, decision_about
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.torch_view import RoundStore

WAITS = Standing("in all_reduce (t.py:1)", Oddness.WAITS_FOR_PEERS)
LOADS = Standing("in load (t.py:9)", Oddness.ELSEWHERE)


@pytest.fixture(name="nodes")
def _nodes():
    """Three nodes' votes over one store."""
    return _votes(3)


def _votes(count):
    """Return the votes of nodes over one store; each answers when it is asked."""
    store = RoundStore(MemoryStore(), "round/")
    nodes = []
    for rank in range(count):
        has_come = threading.Event()
        votes = Votes(store, rank, count, has_come.set)

        def ask(clauses, *, is_beating=False, votes=votes, has_come=has_come):
            votes.ask(clauses, is_beating=is_beating)
            assert has_come.wait(30)
            has_come.clear()
            return votes.take()

        nodes.append(ask)
    return nodes


def test_all_nodes_have_to_be_still(nodes):
    """Group rank 0 decides once all have looked again since the last one was counted in."""
    first, second, third = nodes
    answers = [first({0: WAITS}), second({1: LOADS}), second({1: LOADS}), third(None)]
    assert [Answer()] * 4 == answers

    answers = [third({2: WAITS}), first({0: WAITS}), second({1: LOADS}), third({2: WAITS})]
    assert [Answer()] * 4 == answers
    answers = [second({1: LOADS}), first({0: WAITS}), second({1: LOADS}), third({2: WAITS})]
    decision = Answer(odd=1, text=f"ranks 0, 2 {WAITS.clause}; rank 1 {LOADS.clause}")
    assert [Answer(), *[decision] * 3] == answers


def test_a_decision_is_answered_once(nodes):
    """A node that does not report the odd rank goes on to look; it says once what it has heard."""
    looks = [[node({rank: WAITS}) for rank, node in enumerate(nodes)] for _ in range(6)]

    assert [1, 1, 1] == [sum(each[rank].odd >= 0 for each in looks) for rank in range(3)]


@pytest.fixture(name="pair")
def _pair():
    """Two nodes' votes over one store."""
    return _votes(2)


@pytest.mark.parametrize("place", [WAITS, LOADS])
def test_a_node_that_went_on_before_the_last_one_was_still_is_no_hang(pair, place):
    """Its count is as old as its last look: another look of every node comes before a decision."""
    first, second = pair
    second({1: place})
    before = [first({0: WAITS}), second(None), first({0: WAITS}), first({0: WAITS})]
    after = [second(None), first({0: WAITS}), second(None)]

    assert [Answer()] * 7 == before + after


def test_a_decision_is_void_once_a_node_has_gone_on(pair):
    """When it is still again, the nodes decide anew, about where the ranks are then."""
    first, second = pair
    for _ in range(2):
        first({0: WAITS})
        second({1: WAITS})
    doubt = "no rank stands out, and rank 0 is named for all of them"
    assert Answer(odd=0, text=f"ranks 0-1 {WAITS.clause}; {doubt}") == first({0: WAITS})

    assert [Answer()] * 3 == [second(None), first({0: WAITS}), second({1: LOADS})]
    assert [Answer()] * 3 == [first({0: WAITS}), second({1: LOADS}), second({1: LOADS})]
    decisions = [first({0: WAITS}), second({1: LOADS})]
    assert [Answer(odd=1, text=f"rank 0 {WAITS.clause}; rank 1 {LOADS.clause}")] * 2 == decisions


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


def test_the_odd_rank_is_named_also_where_the_text_is_cut():
    """A thousand ranks may be at a thousand places."""
    places = {rank: Standing(f"in f{rank} (t.py:1)", Oddness.ELSEWHERE) for rank in range(1_000)}

    answer = decision_about({**places, 999: Standing("is stopped (SIGSTOP)", Oddness.HELD)})

    assert (999, "rank 999 is stopped (SIGSTOP); rank 0 in f0") == (answer.odd, answer.text[:43])


@pytest.mark.parametrize("key", ["places/{state}/1", "decision/{state}"])
@pytest.mark.parametrize("text", ["[1]", "7", "null", "{", '{"1": 7}', "[" * 100_000])
def test_what_another_node_writes_can_end_no_agent(key, text):
    """It is no answer; a decision that can't be read names nobody."""
    store = RoundStore(MemoryStore(), "round/")
    has_come = threading.Event()
    votes = Votes(store, 0, 2, has_come.set)
    state = 2 * _CHANGE + 2
    store.add("hang/still", _CHANGE + 1)
    store.set(f"hang/{key.format(state=state)}", text)

    found = []
    for _ in range(3):
        votes.ask({0: WAITS}, is_beating=False)
        assert has_come.wait(30)
        has_come.clear()
        found.append(votes.take())

    assert [Answer()] * 3 == found


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
