"""What an agent does about the workers' store: listen, wait, have a process serve it."""

import errno
import importlib.util
import os
import select
import socket
import subprocess
import sys
import types

import pytest
from elrun.agent.processes.guardian import Guardian
from elrun.agent.workers_store import host as store_host
from elrun.agent.workers_store import host_process
from elrun.agent.workers_store.host import DISABLE_VARIABLE, StoreHost, has_loaded_torch
from elrun.rendezvous.api.handler import RendezvousInfo, RendezvousStoreInfo
from elrun.rendezvous.network.ports import PortClaim
from worker_kit import PATIENCE_S

with_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="without torch there is no store"
)


class Rounds:
    """A rendezvous that has placed this node first."""

    def __init__(self):
        self.claim = PortClaim.take()
        self.asked = 0
        meeting = RendezvousStoreInfo("127.0.0.1", self.claim.port)
        self.info = RendezvousInfo(None, 0, 1, meeting)

    def workers_listener(self):
        self.asked += 1
        return self.claim.listen()

    def connect(self):
        """Return the error of a connection to where the workers meet, or 0, and the socket."""
        client = socket.socket()
        return client.connect_ex(("127.0.0.1", self.claim.port)), client


@pytest.fixture(name="rounds")
def _rounds():
    rounds = Rounds()
    yield rounds
    rounds.claim.release()


@pytest.fixture(name="guardian")
def _guardian():
    guardian = Guardian.start()
    yield guardian
    guardian.release()


@pytest.fixture(name="begun")
def _begun(rounds, guardian):
    """Begin an attempt; what was started ends with the test."""
    hosts = []

    def begin(environ=None, port=None):
        hosts.append(StoreHost(environ or {}, port, rounds, guardian))
        hosts[-1].prepare(rounds.info, is_last=True)
        return hosts[-1]

    yield begin
    for host in hosts:
        host.end()


def look_until(host, condition):
    """Look whenever something happens; return what was said at last."""
    while True:
        trouble = host.tick()
        if condition(host) or trouble:
            return trouble.reason if trouble else ""
        assert select.select(host.wakes().fds, [], [], PATIENCE_S)[0], "nothing happens"


def is_handed_over(host):
    """Whether the process that serves has the only copy of the listener."""
    return host.is_needed_by_others and host._attempt._listener is None


@with_torch
def test_connections_are_taken_from_the_beginning_to_the_end(rounds, begun):
    """They wait; without an attempt, the port is closed."""
    host = begun()
    during, client = rounds.connect()
    host.end()
    client.close()
    after, other = rounds.connect()
    other.close()

    assert (0, errno.ECONNREFUSED) == (during, after)


@pytest.mark.parametrize(
    ("environ", "port"),
    [({DISABLE_VARIABLE: "1"}, None), ({}, 1)],
    ids=["a variable", "another port than the rendezvous'"],
)
def test_rank_0_is_left_to_serve_the_store(rounds, begun, environ, port):
    """The handler is not asked, so that workers are not told that an agent serves it."""
    host = begun(environ, port)

    due = host.wakes()
    assert (0, [], None) == (rounds.asked, [*due.fds], due.within_s)


def test_without_torch_nobody_is_promised_a_store(rounds, begun, monkeypatch):
    """An environment of the workers' own may have it; the agent's serves nothing without."""
    monkeypatch.setattr(sys, "meta_path", [])
    begun()

    assert 0 == rounds.asked


def test_torch_that_is_not_found_is_looked_for_at_each_attempt(rounds, begun, monkeypatch):
    """It may be there later; once it is found, nothing is looked for."""
    answers = [None, "/somewhere/torch"]
    monkeypatch.setattr(store_host, "_find_torch", lambda: answers.pop(0))
    host = begun()
    asked = [rounds.asked]
    for _ in range(2):
        host.prepare(rounds.info, is_last=True)
        asked.append(rounds.asked)

    assert [0, 1, 2] == asked


@with_torch
def test_a_finder_that_finds_no_specifications_is_passed_over(rounds, begun, monkeypatch):
    """Programs may have put anything there."""
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    begun()

    assert 1 == rounds.asked


# It has mapped the file that is named, between the first and the second line that it reads.
MAPS = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    print(flush=True); input()
    kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    print(flush=True); input()
"""


@pytest.fixture(name="mapper")
def _mapper(tmp_path):
    """Start a process without torch that maps a file of torch's name when it is told to."""
    library = tmp_path / "libtorch_global_deps.so"
    library.write_bytes(b"\0" * 4096)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MAPS, str(library)], **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


@with_torch
def test_workers_without_torch_are_given_no_process(begun, mapper):
    """They are looked at a few times, ever more rarely, and then never again."""
    host = begun()
    host.begin_attempt(types.SimpleNamespace(pids=lambda: {0: mapper.pid}))
    first_s = host.wakes().within_s
    host._attempt._looks = [0.0]
    host.tick()

    assert 0.1 < first_s <= 0.2
    assert (None, False) == (host.wakes().within_s, host.is_needed_by_others)


def test_a_process_with_torch_is_recognised(mapper):
    """By the libraries that it has mapped; one that has gone has none."""
    before = has_loaded_torch(mapper.pid)
    mapper.stdin.write("\n")
    mapper.stdin.flush()
    mapper.stdout.readline()
    during = has_loaded_torch(mapper.pid)

    assert (False, True, False) == (before, during, has_loaded_torch(1 << 30))


@pytest.mark.integration
def test_a_connection_calls_for_a_process(rounds, begun):
    """Once that serves, its copy of the listener is the only one: its end closes the port."""
    host = begun()
    _, client = rounds.connect()
    with client:
        loss = look_until(host, is_handed_over)
        os.kill(host._attempt.process.pid, 9)
        loss_then = look_until(host, lambda _: False)
        refused, other = rounds.connect()
        other.close()

    assert ("", errno.ECONNREFUSED) == (loss, refused)
    assert loss_then.endswith("was killed by SIGKILL")


@pytest.mark.integration
def test_where_the_extension_alone_does_not_do_the_whole_of_torch_does(
    rounds, begun, monkeypatch, tmp_path
):
    """A torch that is put together otherwise costs a second, and serves."""
    monkeypatch.setattr(store_host, "_find_torch", lambda: str(tmp_path))
    host = begun()
    _, client = rounds.connect()
    with client:
        loss = look_until(host, is_handed_over)

    assert "" == loss


@pytest.mark.integration
def test_a_torch_that_can_t_be_loaded_is_reported(rounds, begun, monkeypatch, tmp_path):
    """With its own words, and with the way out."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('libcudart.so.1: not there')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    host = begun()
    _, client = rounds.connect()
    with client:
        loss = look_until(host, lambda _: False)

    assert "reported ImportError: libcudart.so.1: not there; " in loss
    assert f"{DISABLE_VARIABLE}=1" in loss


@pytest.mark.integration
def test_a_process_that_can_t_be_forked_is_executed(rounds, guardian):
    """The preloading process may have died."""

    def refuse(*_, **__):
        raise ConnectionResetError(errno.ECONNRESET, "closed")

    preloading = types.SimpleNamespace(is_usable=True, has_torch=True, fork_store_host=refuse)
    host = StoreHost({}, None, rounds, guardian, lambda: preloading)
    host.prepare(rounds.info, is_last=False)
    loss = look_until(host, is_handed_over)
    host.end()

    assert "" == loss


def test_the_program_that_serves_is_installed_beside_its_starter():
    """It is executed by its path: a file that is moved or left out would end every torch job."""
    assert os.path.isfile(host_process.PROGRAM)
