"""A store ends with its host: what the host waits for, and what the other nodes hear."""

import subprocess
import sys
import threading

import pytest
from connector_kit import HERE, node
from elrun.rendezvous.api.handler import VerdictKind
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.liveness.round_watch import SpareWatch
from round_kit import PATIENCE_S

pytestmark = pytest.mark.integration


def test_a_lost_store_wakes_the_agents_and_is_named(port):
    """When the host vanishes, verdict() says which endpoint was lost."""
    endpoint = f"{HERE}:{port}"
    host, guest = node(endpoint, is_host=True), node(endpoint, is_host=False)
    for joining in [host.join(), guest.join()]:
        joining.result(PATIENCE_S)
    guest.changed.clear()
    host.handler.shutdown()

    assert guest.changed.wait(PATIENCE_S)
    with pytest.raises(RendezvousConnectionError, match=f"store at {endpoint} was lost"):
        guest.handler.verdict()
    guest.handler.shutdown()


TWO_NODES = """
import sys, threading
from elrun.rendezvous import NodeProfile, RendezvousParameters, Verdict, VerdictKind
from elrun.rendezvous import get_rendezvous_handler
assert "torch" not in sys.modules
rounds = get_rendezvous_handler(RendezvousParameters("c10d", sys.argv[1], "run", 2, 2))
assert "torch" not in sys.modules
changed = threading.Event()
rounds.subscribe(changed.set)

def await_verdict():
    while rounds.verdict() is None:
        changed.wait()
        changed.clear()
    return rounds.verdict().kind

place = rounds.next_rendezvous().placement
rounds.conclude(Verdict(VerdictKind.WORKER_FAILED, place.group_rank))
await_verdict()
place = rounds.next_rendezvous().placement
rounds.arrive()
assert not {"hmac", "hashlib", "ssl"} & set(sys.modules)
print(place.round, place.restart_count, place.group_world_size, await_verdict().name)
rounds.shutdown()
"""


def test_two_agents_meet_fail_restart_and_end_in_silence(port):
    """Nothing is written to standard error, from the first connection to the last."""
    command = [sys.executable, "-c", TWO_NODES, f"{HERE}:{port}"]
    agents = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    told = [agent.communicate(timeout=2 * PATIENCE_S) for agent in agents]

    assert [(b"1 1 2 DONE\n", b"")] * 2 == told


LOSER = """
import sys, threading
from elrun.rendezvous import RendezvousConnectionError, RendezvousParameters
from elrun.rendezvous import get_rendezvous_handler
rounds = get_rendezvous_handler(
    RendezvousParameters("c10d", sys.argv[1], "run", 2, 2, is_host=False)
)
changed = threading.Event()
rounds.subscribe(changed.set)
rounds.next_rendezvous()
print("joined", flush=True)
changed.wait()
try:
    rounds.verdict()
except RendezvousConnectionError as error:
    print(type(error).__name__)
"""


def test_a_lost_store_is_told_by_elrun_alone(port):
    """By an exception, and by nothing on the user's screen."""
    host = node(f"{HERE}:{port}", is_host=True)
    joining = host.join()
    agent = subprocess.Popen(
        [sys.executable, "-c", LOSER, f"{HERE}:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    joining.result(2 * PATIENCE_S)
    assert b"joined\n" == agent.stdout.readline()
    host.handler.shutdown()

    assert (b"RendezvousConnectionError\n", b"") == agent.communicate(timeout=PATIENCE_S)


WAITER = """
import sys, threading
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
connect = StoreConnector(Endpoint("127.0.0.1", 0), None, None, 10)
store = connect(threading.Event()).store
store.wait(["never"], 0.05)
store.close()
"""


def test_a_host_that_still_waited_for_something_exits_in_peace():
    """No thread of the server or the client holds the interpreter up when it goes down."""
    ended = subprocess.run([sys.executable, "-c", WAITER], stderr=subprocess.PIPE, check=False)

    assert (0, b"") == (ended.returncode, ended.stderr)


def test_a_newcomer_is_told_the_end_before_the_host_leaves(port, monkeypatch):
    """Over a real store, too: a spare of a job that ends exits as one that was not needed."""
    endpoint = f"{HERE}:{port}"
    nodes = [node(endpoint), node(endpoint)]
    joins = [each.join() for each in nodes]
    for joining in joins:
        joining.result(PATIENCE_S)
    spare = node(endpoint)
    stands_by, await_verdict = threading.Event(), SpareWatch.await_verdict

    def await_verdict_and_tell(*args):
        stands_by.set()
        return await_verdict(*args)

    monkeypatch.setattr(SpareWatch, "await_verdict", await_verdict_and_tell)
    joining = spare.join()
    assert stands_by.wait(PATIENCE_S)
    for each in nodes:
        each.handler.arrive()
    verdicts = [each.await_verdict().kind for each in nodes]
    leaving = [threading.Thread(target=each.handler.shutdown) for each in nodes]
    for thread in leaving:
        thread.start()
    outcome = joining.exception(PATIENCE_S)
    spare.handler.shutdown()
    for thread in leaving:
        thread.join(PATIENCE_S)

    assert [VerdictKind.DONE] * 2 == verdicts
    assert "did not need this node" in str(outcome)
