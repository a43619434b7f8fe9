"""The thread that drives a node's machine: what ends it, and who waits for it."""

import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousConnectionError
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.protocol.keys import RunKeys
from round_kit import PATIENCE_S, failed

RUN = RunKeys("run")


def node_threads():
    return {each for each in threading.enumerate() if each.name == "elrun-node"}


def test_a_node_has_one_thread_until_it_leaves(memory_job):
    """None before it is asked for a round."""
    before = node_threads()
    node = memory_job.node((1, 1))
    unasked = node_threads()
    node.join().result(PATIENCE_S)
    (thread,) = node_threads() - before
    node.handler.shutdown()
    thread.join(PATIENCE_S)

    assert before == unasked
    assert not thread.is_alive()


def test_the_thread_looks_after_no_time_while_nothing_is_due(memory_job, memory):
    """Questions are answered while a round forms, and the node waits for hours."""
    joining = memory_job.node((2, 2)).join()
    assert memory.wait([RUN.round(0).node(0)], PATIENCE_S)
    handler = memory_job.nodes[0].handler

    assert (False, 0) == (handler.is_closed(), handler.num_nodes_waiting())
    assert not joining.done()


def test_who_waits_is_told_that_the_node_has_left(memory_job, memory):
    """However deep the store's call hangs."""
    store = memory.connect()
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(*_):
        hangs.set()
        goes_on.wait(PATIENCE_S)
        raise RendezvousConnectionError("the store is gone")

    store.add = hang
    joining = memory_job.node((1, 1), store=store).join()
    assert hangs.wait(PATIENCE_S)
    is_announced = memory_job.nodes[0].handler.shutdown()

    with pytest.raises(RendezvousClosedError, match="has left run 'run'"):
        joining.result(PATIENCE_S)
    goes_on.set()
    assert not is_announced


@pytest.mark.usefixtures("shown_faults")
def test_a_fault_in_the_thread_ends_a_running_round(memory_job, memory):
    """Its node beats no more, so its agent must not go on as if all were well."""
    store = memory.connect()
    node = memory_job.node((1, 1), store=store)
    node.join().result(PATIENCE_S)
    store.create = lambda *_: 1 / 0
    with pytest.raises(RendezvousClosedError):
        node.handler.conclude(failed())

    with pytest.raises(RendezvousConnectionError, match="has failed"):
        node.await_verdict()


def test_a_fault_in_the_thread_leaves_nobody_waiting(memory_job, memory, shown_faults):
    """The fault itself is shown by Python, as that of any thread."""
    store = memory.connect()
    store.add = lambda *_: 1 / 0

    with pytest.raises(RendezvousClosedError):
        memory_job.node((1, 1), store=store).join().result(PATIENCE_S)
    assert [ZeroDivisionError] == shown_faults()


def faulty(*_):
    return 1 / 0


@pytest.mark.usefixtures("shown_faults")
@pytest.mark.parametrize("call", ["connect", "wait"])
def test_a_fault_in_a_thread_beside_the_nodes_leaves_nobody_waiting(memory_job, memory, call):
    """Threads connect and wait for the node; a fault there ends the node's thread as its own do."""
    store = memory.connect()
    store.wait = faulty if call == "wait" else store.wait
    node = memory_job.node((2, 2), store=store)
    if call == "connect":
        node.handler._resources._reach = faulty
    joining = node.join()

    with pytest.raises(RendezvousClosedError):
        joining.result(PATIENCE_S)


@pytest.mark.usefixtures("shown_faults")
@pytest.mark.parametrize(
    "question",
    [
        RoundRendezvous.is_closed,
        RoundRendezvous.set_closed,
        RoundRendezvous.next_rendezvous,
        lambda handler: handler.conclude(failed()),
    ],
    ids=["is_closed", "set_closed", "next_rendezvous", "conclude"],
)
def test_a_question_after_a_fault_in_the_thread_raises_at_once(memory_job, memory, question):
    """No thread is left to answer the question; and the node can be shut down all the same."""
    store = memory.connect()
    store.add = faulty
    node = memory_job.node((1, 1), store=store)
    with pytest.raises(RendezvousClosedError):
        node.join().result(PATIENCE_S)
    asking = Future()
    threading.Thread(target=lambda: answer(asking, question, node.handler), daemon=True).start()

    with pytest.raises(RendezvousClosedError):
        asking.result(PATIENCE_S)
    assert not node.handler.shutdown()


def answer(future, question, handler):
    try:
        future.set_result(question(handler))
    except BaseException as error:
        future.set_exception(error)


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, RendezvousConnectionError])
@pytest.mark.usefixtures("shown_faults")
def test_a_store_whose_run_can_not_be_entered_is_closed(memory_job, memory, error):
    """Whatever the reason is: nobody else knows of the connection."""
    store = memory.connect()
    is_closed = threading.Event()

    def refuse(*_):
        raise error("no")

    store.create = store.get = store.add = refuse
    store.close = is_closed.set
    with pytest.raises((ValueError, RendezvousClosedError, RendezvousConnectionError)):
        memory_job.node((1, 1), store=store).join().result(PATIENCE_S)

    assert is_closed.is_set()


WITHOUT_DESCRIPTORS = """
import errno, os, resource, sys
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler

handler = get_rendezvous_handler(RendezvousParameters("c10d", "127.0.0.1:1", "run", 2, 2))
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + int(sys.argv[1]), 4096))
print(handler.decline("no script"))
try:
    handler.next_rendezvous()
except OSError as error:
    print(error.errno == errno.EMFILE)
print(os.dup(0) == free if sys.argv[1] != "0" else handler.is_closed())
"""


@pytest.mark.parametrize("left", [0, 1], ids=["none", "one"])
def test_a_node_without_a_descriptor_for_its_thread_says_so(left):
    """It declines in vain, takes part in nothing, and leaves nothing open."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(left)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert ("", f"False\nTrue\n{left == 1}\n") == (done.stderr, done.stdout)


def test_a_node_that_was_never_asked_leaves_without_a_thread(memory_job):
    """And answers what it can."""
    before = node_threads()
    handler = memory_job.node((1, 1)).handler
    answers = handler.describe_wait(), handler.is_closed(), handler.num_nodes_waiting()
    handler.set_closed()

    assert ("", False, 0) == answers
    assert (True, True) == (handler.is_closed(), handler.shutdown())
    assert before == node_threads()
