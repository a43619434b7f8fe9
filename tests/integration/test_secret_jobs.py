"""Jobs of several agents that share a secret, and those who don't know it."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import RendezvousConnectionError, RendezvousStateError
from elrun.rendezvous.network.addresses import parse_endpoint
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.etcd.settings import etcd_settings
from elrun.rendezvous.stores.etcd.v3 import EtcdV3Store
from elrun.rendezvous.stores.etcd.v3_client import Gateway
from elrun.rendezvous.stores.server.connector import StoreConnector
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

SECRET = "open sesame"
SAY_AND_WAIT = """
import os, signal, sys
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
sys.stdout.flush()
signal.pause()
"""
TELL_ENVIRONMENT = "import os; print(sorted(k for k, v in os.environ.items() if 'sesame' in v))"


@pytest.fixture(name="endpoint", params=["c10d", "etcd-v3"])
def _endpoint(request, vacant_endpoint):
    """Return the options that say where to meet."""
    if request.param == "c10d":
        yield ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
        return
    with EtcdServer() as server:
        yield ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", server.get_endpoint()]


@pytest.fixture(name="agent")
def _agent(elrun, endpoint):
    def start(*args, **options):
        return elrun(*endpoint, "--rdzv-id", "job", "--nnodes", 2, *args, **options)

    return start


@pytest.fixture(name="secret_file")
def _secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return f"secret_file={path}"


def test_file_and_environment_say_the_same(agent, script, secret_file):
    """One node has the secret from a file and one from its environment; workers have it not."""
    path = script(TELL_ENVIRONMENT)
    jobs = [
        agent("--rdzv-conf", secret_file, path),
        agent(path, env={"ELRUN_RDZV_SECRET": SECRET}),
    ]

    assert [(0, "[]\n", "")] * 2 == [job.finish() for job in jobs]


def test_a_job_with_another_secret_is_refused_and_disturbs_nobody(agent, script, secret_file):
    """Two jobs have one run id: the second ends with 75 and says why, the first goes on."""
    path = script(SAY_AND_WAIT)
    jobs = [agent("--rdzv-conf", secret_file, path) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("nodes 2")
    strangers = [
        agent(path, env={"ELRUN_RDZV_SECRET": "please"}),
        agent(path),
    ]
    ends = [job.finish() for job in strangers]
    alive = [job.process.poll() for job in jobs]
    for job in jobs:
        job.process.terminate()
    said = [job.finish() for job in jobs]

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert "run 'job' has another secret than this node" in ends[0][2]
    assert "run 'job' takes only nodes that know its secret" in ends[1][2]
    assert [None, None] == alive
    assert ["nodes 2\n"] * 2 == [out for _, out, _ in said]


def test_the_secret_is_nowhere_to_be_read(agent, script, secret_file):
    """Not on the command line, not in the log, however much of it is asked for."""
    jobs = [
        agent(
            "--rdzv-conf", secret_file, script(SAY_AND_WAIT), env={"LOGLEVEL": "DEBUG"}
        )
        for _ in range(2)
    ]  # fmt: skip
    for job in jobs:
        job.wait_for_line("nodes 2")
    commands = [Path(f"/proc/{job.process.pid}/cmdline").read_text() for job in jobs]
    for job in jobs:
        job.process.terminate()
    said = [job.finish()[2] for job in jobs]

    assert all("round 0" in text for text in said)
    assert not any("sesame" in text for text in [*commands, *said])


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("secret=sesame", "every user of this host could read it"),
        ("secret_file=/does/not/exist", "No such file or directory"),
    ],
)
def test_a_secret_that_cannot_be_had_is_bad_usage(agent, script, setting, sentence):
    """Exit code 2 and a sentence, before anybody is met."""
    code, _, err = agent("--rdzv-conf", setting, script("")).finish()

    assert 2 == code
    assert sentence in err
    assert "Traceback" not in err


def stranger_at(endpoint):
    """Return a connection to etcd of one who knows the protocol, and not the secret."""
    backend, address = endpoint[1], endpoint[3]
    settings = etcd_settings(RendezvousParameters(backend, address, "job", 1, 1))
    gateways = [Gateway(settings, each) for each in settings.endpoints]
    store = EtcdV3Store(settings.name, gateways, RunKeys("job").prefix)
    store.open()
    return store


class Flood:
    """Writes junk over some keys for as long as it lasts."""

    def __init__(self, store, keys):
        self._store = store
        self._keys = keys
        self.waves = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        with contextlib.suppress(RendezvousConnectionError):  # the job has ended, and its store
            while not self._is_over.wait(0.01):
                self.waves += 1
                self._store.set(dict.fromkeys(self._keys, b"junk %d" % self.waves))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._store.close()


WORK = """
import os, sys, time
print("nodes", os.environ["GROUP_WORLD_SIZE"], flush=True)
time.sleep(6)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    sys.exit(3)
"""


class Knocker:
    """Comes to the store server of a job again and again, without its secret."""

    def __init__(self, address):
        self._where = parse_endpoint(address)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = set()
        self.visits = 0

    def _run(self):
        connect = StoreConnector(self._where, False, None, 0, run_id="job")
        while not self._is_over.wait(0.002):
            self.visits += 1
            try:
                connect(threading.Event()).store.close()
                self.answers.add("let in")
            except RendezvousStateError:
                self.answers.add("refused")
            except RendezvousConnectionError:  # the job has ended, and its store
                return
            with contextlib.suppress(OSError), socket.create_connection(self._where) as garbage:
                garbage.sendall(b"\0\0\0\2{}" * 40)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


@pytest.mark.parametrize("endpoint", ["c10d"], indirect=True)
def test_a_stranger_at_the_store_server_can_only_open_connections(
    agent, endpoint, script, secret_file
):
    """Many visits let nobody in; the workers run on, one fails and is restarted."""
    path = script(WORK)
    jobs = [agent("--rdzv-conf", secret_file, "--max-restarts", 1, path) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("nodes 2")
    with Knocker(endpoint[3]) as knocker:
        ends = [job.finish() for job in jobs]

    assert [(0, "nodes 2\nnodes 2\n")] * 2 == [end[:2] for end in ends], ends
    assert {"refused"} == knocker.answers
    assert 10 < knocker.visits


@pytest.mark.parametrize("endpoint", ["etcd-v3"], indirect=True)
def test_a_stranger_who_floods_counters_and_beats_ends_and_restarts_nothing(
    agent, endpoint, script, secret_file
):
    """The workers run on, one fails and is restarted, all succeed: as if nobody were there."""
    path = script(WORK)
    jobs = [agent("--rdzv-conf", secret_file, "--max-restarts", 1, path) for _ in range(2)]
    stranger = stranger_at(endpoint)
    for job in jobs:
        job.wait_for_line("nodes 2")
    rounds = [RunKeys("job").round(number) for number in range(3)]
    # Who turns the seats of a round that forms can hold it up: docs/security.md says so.
    counters = [rounds[0].seats, *(f"{each.prefix}/finished" for each in rounds)]
    beats = [each.beat(rank) for each in rounds for rank in range(2)]
    with Flood(stranger, [*counters, *beats]) as flood:
        ends = [job.finish() for job in jobs]

    assert [(0, "nodes 2\nnodes 2\n")] * 2 == [end[:2] for end in ends], ends
    assert 10 < flood.waves


@pytest.mark.parametrize("has_it", ["first", "second"])
def test_the_waiting_node_says_that_only_one_has_a_secret(elrun, script, vacant_endpoint, has_it):
    """The other one is refused, and may run where nobody looks."""
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={vacant_endpoint}", "--rdzv-id=job")
    options = ("--nnodes=2", *meeting, "--rdzv-conf=join_timeout=8", script(""))
    secret = {"ELRUN_RDZV_SECRET": "x" * 32}
    first = elrun(*options, env=secret if has_it == "first" else {})
    until(lambda: can_connect(vacant_endpoint))
    refused, *_ = elrun(*options, env=secret if has_it == "second" else {}).finish()

    code, _, err = first.finish()

    who = "has no secret, and this node has one" if has_it == "first" else "has a secret, and this"
    assert (75, 75) == (refused, code)
    assert f"was refused, as it {who}" in err
