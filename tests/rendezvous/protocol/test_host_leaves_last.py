"""The node that hosts the store leaves last: it waits for all that live and still read it."""

import contextlib
import threading

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousStateError,
)
from elrun.rendezvous.node.seal import Seat
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits, Node
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.steps import Asking, call
from round_kit import PATIENCE_S, TIMING

RUN = RunKeys("run")
ROUND_0, ROUND_1 = (RUN.round(number) for number in (0, 1))


def test_the_host_of_the_store_leaves_last(memory_job):
    """It waits until every other node has left its mark."""
    host = memory_job.node((2, 2), host=True, leave_s=60)
    guest = memory_job.node((2, 2))
    memory_job.rendezvous([host, guest])
    host.handler.arrive()
    guest.handler.arrive()
    host.await_verdict()
    leaving = threading.Thread(target=host.handler.shutdown)
    leaving.start()
    leaving.join(0.1)
    waits = leaving.is_alive()
    verdict = guest.await_verdict().kind
    guest.handler.shutdown()
    leaving.join(PATIENCE_S)

    assert (True, VerdictKind.DONE, False) == (waits, verdict, leaving.is_alive())


def test_the_host_waits_for_spares_too(memory_job):
    """A spare reads the end of the run before the store goes away."""
    host = memory_job.node((1, 1), host=True, leave_s=60)
    memory_job.rendezvous([host])
    spare = memory_job.node((1, 1))
    joining = spare.join()
    host.store.wait([ROUND_1.node(0)], PATIENCE_S)
    host.handler.arrive()
    leaving = threading.Thread(target=host.handler.shutdown)
    leaving.start()
    outcome = joining.exception(PATIENCE_S)
    leaving.join(0.1)
    waits = leaving.is_alive()
    spare.handler.shutdown()
    leaving.join(PATIENCE_S)

    assert (True, False) == (waits, leaving.is_alive())
    assert "did not need" in str(outcome)


def test_a_host_that_is_a_spare_waits_for_the_members(memory_job):
    """Whoever hosts the store, it stays until all have read the end."""
    (member,) = memory_job.running(1, (1, 1))
    host = memory_job.node((1, 1), host=True, leave_s=60)
    joining = host.join()
    member.store.wait([ROUND_1.node(0)], PATIENCE_S)
    member.handler.arrive()
    joining.exception(PATIENCE_S)
    leaving = threading.Thread(target=host.handler.shutdown)
    leaving.start()
    leaving.join(0.1)
    waits = leaving.is_alive()
    member.handler.shutdown()
    leaving.join(PATIENCE_S)

    assert (True, False) == (waits, leaving.is_alive())


def test_the_host_of_a_run_that_ends_before_its_first_round_waits_for_all_seats(memory_job):
    """They read why the run ends, and not that the store is lost."""
    host = memory_job.node((3, 3), host=True, leave_s=60)
    its_joining = host.join()
    host.store.wait([ROUND_0.node(0)], PATIENCE_S)
    guest = memory_job.node((3, 3))
    joining = guest.join()
    host.store.wait([ROUND_0.node(1)], PATIENCE_S)
    host.handler.abort(Verdict(VerdictKind.ABORTED, reason="no more"))
    its_joining.exception(PATIENCE_S)
    leaving = threading.Thread(target=host.handler.shutdown)
    leaving.start()
    leaving.join(0.1)
    waits = leaving.is_alive()
    outcome = joining.exception(PATIENCE_S)
    guest.handler.shutdown()
    leaving.join(PATIENCE_S)

    assert (True, False) == (waits, leaving.is_alive())
    assert "no more" in str(outcome)


def test_a_host_that_can_not_take_part_ends_the_run_for_all(memory_job):
    """The store ends with it: the others read why, instead of a lost store."""
    first = memory_job.node((2, 2))
    joining = first.join()
    first.store.wait([ROUND_0.node(0)], PATIENCE_S)
    host = memory_job.node((2, 2), host=True, max_restarts=3, deputy_s=0.05, leave_s=60)
    refused = host.join().exception(PATIENCE_S)
    leaving = threading.Thread(target=host.handler.shutdown)
    leaving.start()
    outcome = joining.exception(PATIENCE_S)
    leaving.join(0.1)
    waits = leaving.is_alive()
    first.handler.shutdown()
    leaving.join(PATIENCE_S)

    assert isinstance(refused, RendezvousStateError)
    assert (True, False) == (waits, leaving.is_alive())
    assert "which hosts the rendezvous, can't take part: run 'run' has --max-r" in str(outcome)


def test_the_mark_for_which_the_host_waits_is_the_last_request_of_a_node():
    """The host ends the store as soon as it has read the mark: a later request would fail."""
    store, asked = MemoryStore(), []
    node = Node("a", "::1", 1, 1, "default", Limits(2, 2))
    steps = Seat(Asking(0), RUN, 0, 1, node, TIMING, None, None).leave()
    with contextlib.suppress(StopIteration):
        asked.append(next(steps))
        while True:
            asked.append(steps.send(call(store, *asked[-1][1:])))

    assert {ROUND_0.left(1): b"1"} == asked[-1].args[0]
    assert [b"1"] == store.get([ROUND_0.left(1)])


def test_the_host_does_not_wait_for_the_dead(memory_job):
    """The farewell has a time limit."""
    host = memory_job.node((2, 2), host=True, leave_s=0.05)
    memory_job.rendezvous([host, memory_job.node((2, 2))])
    host.handler.set_closed()

    assert host.handler.shutdown()


def test_the_host_does_not_stay_for_a_run_that_goes_on(memory_job):
    """Who leaves by a signal leaves at once."""
    host = memory_job.node((2, 2), host=True, leave_s=3600)
    memory_job.rendezvous([host, memory_job.node((2, 2))])
    host.handler.conclude(Verdict(VerdictKind.NODE_LOST, 0, "left", lost=(0,)))

    assert host.handler.shutdown()


def test_a_failing_rendezvous_gives_its_port_back(memory_job):
    """No claim outlives the handler."""
    node = memory_job.node((1, 1))
    port = node.join().result(PATIENCE_S).bootstrap_store_info.master_port
    node.handler.shutdown()
    from elrun.rendezvous.network.ports import PortClaim

    claim = PortClaim.take([port])
    claim.release()

    assert port == claim.port


def test_a_handler_that_was_shut_down_joins_nothing(memory_job, memory):
    """No seat is taken on behalf of an agent that has gone."""
    node = memory_job.node((1, 1))
    node.handler.shutdown()

    with pytest.raises(RendezvousClosedError):
        node.handler.next_rendezvous()
    assert [None] == memory.get([ROUND_0.seats])
