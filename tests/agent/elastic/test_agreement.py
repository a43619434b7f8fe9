"""All nodes of a failed job print one root cause, whichever of them knows it."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from agent_kit import ScriptedRounds
from elrun.agent.elastic.agreement import Agreement, is_final, proposal_of
from elrun.agent.failures.report import RootCause
from elrun.rendezvous.errors import RendezvousConnectionError

CAUSE = RootCause(3, 1, "b", 30, 1, 1790000000, "ValueError: no such shard")
OTHER_CAUSE = CAUSE._replace(global_rank=2, message="KeyError: 'later'")
CONSEQUENCE = RootCause(
    0, 0, "a", 10, 1, 1790000000, "RuntimeError: Connection closed by peer", is_consequence=True
)
WORDLESS = RootCause(1, 1, "a", 11, 7, 1790000000, "exited with code 7", says_why=False)
NO_WORKER = RootCause(-1, -1, "", 0, 1, 1790000000, "the workers' store is lost")


@pytest.mark.parametrize(
    ("named", "mine", "is_author", "proposed"),
    [
        (CAUSE, OTHER_CAUSE, False, None),  # the first verdict stands
        (CAUSE, OTHER_CAUSE, True, None),
        (CONSEQUENCE, CAUSE, False, CAUSE),
        (CONSEQUENCE, CAUSE, True, CAUSE),
        (CONSEQUENCE, WORDLESS, False, WORDLESS),
        (CONSEQUENCE, CONSEQUENCE, True, None),
        (CONSEQUENCE, None, False, None),
        (WORDLESS, CAUSE, False, None),  # it has failed later
        (WORDLESS, WORDLESS._replace(message="bye", says_why=True), True, "bye"),
        (NO_WORKER, CONSEQUENCE, True, None),
        (NO_WORKER, CAUSE, False, CAUSE),
    ],
)
def test_a_node_proposes_what_is_better_than_the_verdict(named, mine, is_author, proposed):
    """A cause instead of a consequence, and words that the author of the verdict has read since."""
    found = proposal_of(named, mine, is_author=is_author)

    assert proposed == (found.message if isinstance(proposed, str) else found)


@pytest.mark.parametrize(
    ("named", "final"),
    [(CAUSE, True), (CONSEQUENCE, False), (WORDLESS, False), (NO_WORKER, False)],
)
def test_a_cause_that_says_why_is_final(named, final):
    """So most jobs need no further call to the store."""
    assert final == is_final(named)


class SharedRounds(ScriptedRounds):
    """Several nodes' rounds in one process: the first cause that is written stands."""

    def __init__(self, nodes):
        super().__init__(nodes=nodes)
        self.standing = None
        self.reported = 0
        self.changed = threading.Condition()

    def settle_cause(self, cause):
        with self.changed:
            self.calls.append("settle")
            self.standing = self.standing or cause
            self.changed.notify_all()
            return self.standing

    def await_cause(self, timeout_s):
        with self.changed:
            self.changed.wait_for(lambda: self.standing, timeout_s)
            return self.standing

    def report(self):
        with self.changed:
            self.reported += 1
            self.changed.notify_all()

    def await_reports(self):
        with self.changed:
            self.changed.wait_for(lambda: self.reported == self.nodes)


def agreed(named, proposals):
    """Return the root cause of each node, and the calls to the store; node 0 collects reports."""
    rounds = SharedRounds(len(proposals))

    def one_node(rank):
        agreement = Agreement(rounds, lambda question: question(), named, proposals[rank])
        rounds.report()
        if rank == 0:
            rounds.await_reports()
        return agreement.finish(knows_all=rank == 0)

    with ThreadPoolExecutor(len(proposals)) as nodes:
        return list(nodes.map(one_node, range(len(proposals)))), rounds.calls


@pytest.mark.parametrize(
    "proposals", [*itertools.permutations([CAUSE, OTHER_CAUSE, None])], ids=str
)
def test_all_nodes_take_the_cause_that_was_written_first(proposals):
    """Whichever node that was; and no node keeps its own."""
    roots, _ = agreed(CONSEQUENCE, proposals)

    assert (1, True) == (len({*roots}), roots[0] in (CAUSE, OTHER_CAUSE))


def test_nodes_that_know_no_cause_take_what_the_verdict_names():
    """No one waits until its time is up: group rank 0 knows it when all have reported."""
    roots, calls = agreed(CONSEQUENCE, [None, None, None])

    assert ([CONSEQUENCE] * 3, ["settle"]) == (roots, calls)


def test_a_final_cause_costs_no_call():
    """The verdict has said it all."""
    assert ([CAUSE] * 2, []) == agreed(CAUSE, [None, None])


@pytest.mark.parametrize("junk", [b"", b"{}", b"[", b"null", b'"x"'])
def test_what_can_not_be_read_leaves_a_node_its_own(junk):
    """Another version of elrun may have written it."""
    rounds = SharedRounds(2)
    rounds.standing = junk or b"\xff"
    agreement = Agreement(rounds, lambda question: question(), CONSEQUENCE, CAUSE)

    assert CAUSE == agreement.finish(knows_all=False)


@pytest.mark.parametrize("proposal", [None, CAUSE])
def test_a_lost_store_leaves_a_node_what_it_knows(proposal):
    """It asks once, and does not wait again."""
    asked = []

    def ask(question):
        asked.append(question)
        raise RendezvousConnectionError("gone")

    agreement = Agreement(SharedRounds(2), ask, CONSEQUENCE, proposal)

    assert (proposal or CONSEQUENCE, 1) == (agreement.finish(knows_all=False), len(asked))


def test_a_cause_survives_the_way_through_the_store():
    """Every field of it."""
    cause = CONSEQUENCE._replace(kernel_words="x", traceback="y", file="z", exception="e.E")

    assert cause == RootCause.from_json(json.loads(json.dumps(cause.to_json())))
