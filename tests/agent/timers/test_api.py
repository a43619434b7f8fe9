"""Timers as a worker's code sees them, and the template of their servers."""

import queue
import signal
import time

import pytest
from elrun.agent import timers
from elrun.agent.timers import (
    LocalTimerClient,
    LocalTimerServer,
    MultiprocessingRequestQueue,
    RequestQueue,
    TimerClient,
    TimerRequest,
    TimerServer,
    configure,
    expires,
)


class Notebook(TimerClient):
    """A client that writes down what it is told."""

    def __init__(self):
        self.notes = []

    def acquire(self, scope_id, expiration_time):
        self.notes.append(("acquire", scope_id, expiration_time))

    def release(self, scope_id):
        self.notes.append(("release", scope_id))

    @property
    def scopes(self):
        return [note[1] for note in self.notes]


@pytest.fixture(name="client")
def _client():
    client = Notebook()
    configure(client)
    yield client
    configure(None)


def test_a_block_holds_its_timer_until_it_is_left(client):
    """It expires so many seconds after the entry."""
    before = time.time()
    with expires(after=60, scope="all-reduce"):
        ((name, scope, expiration),) = client.notes
        assert ("acquire", "all-reduce") == (name, scope)
        assert before + 60 <= expiration <= time.time() + 60

    assert ("release", "all-reduce") == client.notes[-1]


def test_a_block_that_raises_releases_its_timer(client):
    """The exception goes on."""
    with pytest.raises(KeyError), expires(after=60, scope="load"):
        raise KeyError

    assert ["load", "load"] == client.scopes


def test_a_scope_without_a_name_is_its_place_in_the_code(client):
    """Each place has a timer of its own; the same place has the same one."""
    for _ in range(2):
        with expires(after=60):
            pass
    with expires(after=60):
        pass

    first, again, other = client.scopes[::2]
    assert first == again != other
    assert first.startswith(f"{__file__}#")


def test_a_client_may_be_given_for_a_block(client):
    """It goes before the one that was configured."""
    other = Notebook()

    with expires(after=60, client=other):
        pass

    assert ([], 2) == (client.notes, len(other.notes))


def test_a_function_may_be_guarded_at_each_call(client):
    """The timer starts with the call, not with the definition."""

    @expires(after=60, scope="step")
    def step():
        return len(client.notes)

    assert [1, 3] == [step(), step()]


def test_a_block_without_a_client_is_refused():
    """The message says what to call."""
    with pytest.raises(RuntimeError, match="call elrun.agent.timers.configure"), expires(after=1):
        pass


@pytest.mark.parametrize("after", [-1, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(client, after):
    """No timer is set."""
    with pytest.raises(ValueError, match="give a number of seconds"):
        expires(after=after)


def test_every_public_name_is_there():
    """The names are those of torch.distributed.elastic.timer."""
    names = (
        "configure expires TimerClient TimerServer TimerRequest RequestQueue LocalTimerClient "
        "LocalTimerServer FileTimerClient FileTimerServer FileTimerRequest"
    )

    assert all(callable(getattr(timers, name)) for name in names.split())
    with pytest.raises(AttributeError):
        timers.nonsense  # noqa: B018  it is the attribute that is asked for


class Requests(RequestQueue):
    def size(self):
        return 2

    def get(self, size, timeout):
        return [TimerRequest(n, "a", 0) for n in range(size)]


class Template(TimerServer):
    """Worker 1 can't be asked, 2 is reaped, 3 resists."""

    def __init__(self):
        super().__init__(Requests(), max_interval=1)
        self.registered = None
        self.cleared = None

    def register_timers(self, timer_requests):
        self.registered = timer_requests

    def clear_timers(self, worker_ids):
        self.cleared = worker_ids

    def get_expired_timers(self, deadline):
        return {n: [TimerRequest(n, "a", 0)] for n in (1, 2, 3)}

    def _reap_worker(self, worker_id):
        if worker_id == 1:
            raise OSError
        return worker_id == 2


def test_a_server_of_ones_own_is_a_template():
    """A worker that resists keeps its timers and is tried again; one that raises is given up."""
    server = Template()

    server._run_watchdog()

    assert [0, 1] == [request.worker_id for request in server.registered]
    assert {1, 2} == server.cleared


@pytest.fixture(name="local")
def _local():
    """A local server over a queue in memory, and what it killed."""
    requests = queue.Queue()
    killed = []
    server = LocalTimerServer(requests, max_interval=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.kill", lambda *call: killed.append(call))
        yield server, requests, killed


def test_a_local_server_kills_a_worker_and_forgets_its_timers(local):
    """Other workers are left alone."""
    server, requests, killed = local
    for pid, scope, age_s in [(7, "a", 60), (7, "b", -60), (8, "a", -60)]:
        requests.put(TimerRequest(pid, scope, time.time() - age_s))

    server._run_watchdog()

    assert [(7, signal.SIGKILL)] == killed
    assert [(8, "a")] == list(server._timers)


@pytest.mark.parametrize("set_by_s", [3_600, -3_600])
def test_a_clock_that_is_set_ends_no_timer_and_prolongs_none(local, monkeypatch, set_by_s):
    """A worker that is in time would be killed, or a stuck one would live on."""
    server, requests, killed = local
    clock = time.time
    for pid, left_s in [(7, 60), (8, 0.05)]:
        requests.put(TimerRequest(pid, "a", clock() + left_s))
    server._run_watchdog()

    monkeypatch.setattr(time, "time", lambda: clock() + set_by_s)
    while not killed:
        server._run_watchdog()

    assert [(8, signal.SIGKILL)] == killed


def test_a_local_client_sets_and_releases(local):
    """A timer that was never set may be released, too."""
    server, requests, killed = local
    client = LocalTimerClient(requests)
    client.acquire("a", time.time() + 60)
    client.acquire("b", time.time() + 60)
    client.release("a")
    client.release("c")

    server._run_watchdog()

    assert ([], ["b"]) == (killed, [scope for _, scope in server._timers])


def test_a_queue_gives_what_is_there_after_the_timeout():
    """Never more than was asked for."""
    source = queue.Queue()
    for number in range(3):
        source.put(number)
    requests = MultiprocessingRequestQueue(source)

    assert (3, [0, 1], [2]) == (requests.size(), requests.get(2, 0), requests.get(2, 0.01))
