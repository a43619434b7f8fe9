"""The scout, which looks for the others while a node waits: when it may take the node elsewhere."""

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.node.store_session import Scout, enter_run
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.steps import Asking, Reached, call, perform

RUN = RunKeys("run")


def store(forming):
    """Return a store of the run, in which a round forms."""
    store = MemoryStore()
    perform(enter_run(Asking(store), RUN, None, forming))
    return store


class Waiting:
    """A node that waits at an endpoint, with a scout; its requests are carried out one by one."""

    def __init__(self, here, there):
        self.here, self.there = here, there
        self.done = []
        self.scout = Scout(RUN, Reached(here, "me", 0, at=0), 2.0, self.leave)

    def leave(self):
        self.done.append("left its seats")
        yield Asking(self.here).set({"left": b"1"})

    def watch(self, until=None):
        """Carry the scout's steps out; the wait ends before the step with a given name."""
        steps, answer = self.scout.watch(), None
        try:
            while True:
                request = steps.send(answer)
                self.scout.is_over |= request.name == until
                answer = self._take(request)
        except StopIteration:
            return

    def _take(self, request):
        if request.store is not None:
            return call(*request)
        if request.name == "survey":
            return [(1, self.there.connect())]
        self.done.append((request.name, *request.args))
        self.scout.is_over |= len(self.done) > 9
        return None


def is_within_reach(store):
    """Return whether a connection is open."""
    try:
        store.get([])
    except RendezvousConnectionError:
        return False
    return True


def test_a_node_goes_where_the_run_has_come_further():
    """It leaves its seats while it can, and closes its connection."""
    node = Waiting(store(0), store(7))
    node.watch()

    assert [("sleep", 2.0), ("choose", 1), "left its seats"] == node.done
    assert (True, False) == (node.scout.is_leaving, is_within_reach(node.here))


@pytest.mark.parametrize("moment", ["sleep", "survey", "close"])
def test_a_wait_that_is_over_keeps_the_node_where_it_is(moment):
    """A node that has a place in a round is not taken away from it a moment later."""
    node = Waiting(store(0), store(7))
    node.watch(moment)

    assert [("sleep", 2.0)] == node.done
    assert (False, True) == (node.scout.is_leaving, is_within_reach(node.here))


@pytest.mark.parametrize("forming", [3, 5])
def test_a_node_stays_where_the_run_is_as_far(forming):
    """And looks again after a while; an earlier endpoint goes before a later one."""
    node = Waiting(store(5), store(forming))
    node.watch()

    assert [("sleep", 2.0)] * 10 == node.done
    assert is_within_reach(node.here)
