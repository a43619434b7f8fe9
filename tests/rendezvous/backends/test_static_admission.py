"""Which nodes a static job lets in, decided on a clock that the test moves."""

import logging

import pytest
from elrun.rendezvous.backends.static_admission import StaticNodes
from elrun.rendezvous.stores.server.guests import Admitted
from elrun.rendezvous.stores.server.hello import Hello, Refusal

MARK = "the store's"
SILENCE_S = 2
ME = Hello("job", "a", node_rank=0, nodes=3)


@pytest.fixture(name="nodes")
def _nodes():
    """Return those of a job of three, of which node rank 0 is there."""
    nodes = StaticNodes(ME, SILENCE_S)
    nodes.admit(ME, 1, MARK, 0)
    return nodes


def node(rank=1, host="b", run="job", nodes=3, server=""):
    return Hello(run, host, node_rank=rank, nodes=nodes, server=server)


def test_a_node_is_missing_until_all_are_there(nodes):
    """The door is open as long."""
    missing = [nodes.are_missing(0)]
    for rank in (1, 2):
        assert Admitted() == nodes.admit(node(rank), 10 + rank, MARK, 1)
        missing.append(nodes.are_missing(1))
    nodes.leave(12)

    assert [True, True, False, True] == [*missing, nodes.are_missing(1)]


def test_a_silent_node_is_missing_until_it_speaks(nodes):
    """Its machine may be dead, and then no connection ends."""
    for rank in (1, 2):
        nodes.admit(node(rank), 10 + rank, MARK, 0)
    for client in (1, 12):
        nodes.hear(client, 1.5)
    next_check_s = nodes.changes_in_s(1.5)
    missing = nodes.are_missing(2)
    nodes.hear(11, 2.1)

    assert (0.5, True, False) == (next_check_s, missing, nodes.are_missing(2.1))


def test_a_silent_node_is_replaced(nodes):
    """By one that has its rank; when its connection ends, that one stays."""
    nodes.admit(node(), 11, MARK, 0)
    answer = nodes.admit(node(host="c"), 12, MARK, SILENCE_S)
    nodes.leave(11)

    assert Admitted(instead_of=11) == answer
    assert isinstance(nodes.admit(node(host="d"), 13, MARK, SILENCE_S), Refusal)


def test_a_node_that_has_left_may_come_back(nodes):
    """At once: a restarted container has the same rank."""
    nodes.admit(node(), 11, MARK, 0)
    nodes.leave(11)

    assert Admitted() == nodes.admit(node(), 12, MARK, 0)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (node(1, "c"), ["two nodes have --node-rank 1, on c and on b"]),
        (node(1, "b"), ["two nodes have --node-rank 1, both on b"]),
        (node(0, "c"), ["two nodes have --node-rank 0, on c and on a"]),
        (node(0, "c", server="another's"), ["two nodes have --node-rank 0, on c and on a"]),
        (node(3), ["node rank 3 (b) is none of 3 nodes"]),
        (node(2, nodes=4), ["node rank 0 (a) was told --nnodes 3", "node rank 2 (b) --nnodes 4"]),
        (node(2, run="x"), ["node rank 0 (a) belongs to run 'job'", "(b) to run 'x'", "--rdzv-id"]),
    ],
)
def test_a_node_that_does_not_fit_is_refused_by_name(nodes, hello, words):
    """Both sides are named, with what they were told."""
    nodes.admit(node(), 11, MARK, 0)
    answer = nodes.admit(hello, 12, MARK, 0)

    assert [True] * len(words) == [word in answer.reason for word in words]


def test_a_node_that_reaches_itself_is_alone(nodes):
    """It takes nobody's place by asking."""
    assert Admitted() == nodes.admit(node(0, "a", server=MARK), 12, MARK, 0)
    nodes.leave(12)

    assert isinstance(nodes.admit(node(0, "c"), 13, MARK, 0), Refusal)


def test_a_refusal_is_logged_once(nodes, caplog):
    """On the node that everybody looks at; the rank of a node that may be dead only if it lasts."""
    caplog.set_level(logging.WARNING)
    nodes.admit(node(), 11, MARK, 0)
    for now in (0, 1):
        nodes.hear(11, now)
        nodes.admit(node(host="c"), 12, MARK, now)
    before = len(caplog.messages)
    for now in (2, 3, 4):
        nodes.hear(11, now)
        nodes.admit(node(host="c"), 12, MARK, now)

    assert (0, 1) == (before, len(caplog.messages))
    assert "--node-rank 1, on c and on b" in caplog.text
