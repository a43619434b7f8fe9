"""How many calls to the store each method of a running node makes, as ``RoundHandler`` says."""

import threading

import pytest
from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from round_kit import PATIENCE_S, silence


class CountingStore:
    """A store that notes the names of its methods that are called."""

    def __init__(self, store):
        self._store = store
        self.calls = []
        self.awaits_verdict = threading.Event()

    def __getattr__(self, name):
        method = getattr(self._store, name)

        def call(*args):
            if name == "wait" and args[0][0].endswith("/verdict"):  # in a thread of its own
                self.awaits_verdict.set()
            else:
                self.calls.append(name)
            return method(*args)

        return call


@pytest.fixture(name="member")
def _member(memory_job, memory):
    """Return a member of a running round of two nodes, and its store; nothing beats or waits."""
    stores = [CountingStore(memory.connect()) for _ in range(2)]
    nodes = [memory_job.node((2, 2), store=store) for store in stores]
    memory_job.rendezvous(nodes)
    silence(nodes[0].handler)
    assert stores[0].awaits_verdict.wait(PATIENCE_S)
    stores[0].calls.clear()
    return nodes[0].handler, stores[0]


CALLS = {
    "verdict": (lambda handler: handler.verdict(), []),
    "describe": (lambda handler: handler.describe(NodeProfile(2)), []),
    "subscribe": (lambda handler: handler.subscribe(print), []),
    "describe_wait": (lambda handler: handler.describe_wait(), []),
    "is_needed_by_others": (lambda handler: handler.is_needed_by_others, []),
    "conclude": (lambda handler: handler.conclude(Verdict(VerdictKind.NODE_LOST)), ["create"]),
    "arrive": (lambda handler: handler.arrive(), ["set", "get"]),
    "publish": (lambda handler: handler.publish(b"outcome"), ["set"]),
    "num_nodes_waiting": (lambda handler: handler.num_nodes_waiting(), ["add"]),
}


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_a_method_makes_few_calls_to_the_store(member, call, expected):
    """The loop calls it: it must not ask again and again."""
    handler, store = member

    call(handler)

    assert expected == store.calls


def test_the_last_member_to_arrive_makes_one_call_more(member, memory_job):
    """It writes DONE."""
    handler, store = member
    memory_job.nodes[1].handler.arrive()

    handler.arrive()

    assert ["set", "get", "create"] == store.calls
