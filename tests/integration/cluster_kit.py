"""A real etcd of three members on this machine, of which a test may kill some."""

import json
import select
import signal
import subprocess
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.etcd.server import _find_binary

MEMBERS = 3


class EtcdCluster:
    """Three members, by number from 0.

    Args:
        folder: Where they keep their data.
        v2: Whether they serve the v2 API, too.
        host: Address at which they are.
    """

    def __init__(self, folder, *, v2, host="127.0.0.1"):
        self._folder = folder
        self._host = host
        self._v2 = v2
        self._clients = [PortClaim.take() for _ in range(MEMBERS)]
        self._peers = [PortClaim.take() for _ in range(MEMBERS)]
        self._processes = [None] * MEMBERS

    def __enter__(self):
        try:
            for member in range(MEMBERS):
                self.start(member)
            for member in range(MEMBERS):
                self.await_health(member)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill(*(member for member, process in enumerate(self._processes) if process))
        for claim in [*self._clients, *self._peers]:
            claim.release()

    @property
    def endpoints(self):
        """What ``--rdzv-endpoint`` takes."""
        return ",".join(str(Endpoint(self._host, claim.port)) for claim in self._clients)

    def start(self, member):
        """Start a member, or start it again."""
        client, peer = (self._url(claims, member) for claims in (self._clients, self._peers))
        peers = (f"m{n}={self._url(self._peers, n)}" for n in range(MEMBERS))
        options = [
            f"--name=m{member}",
            f"--data-dir={self._folder}/m{member}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={','.join(peers)}",
            "--initial-cluster-state=new",
            "--unsafe-no-fsync",
            *(["--enable-v2"] if self._v2 else []),
        ]
        with open(f"{self._folder}/m{member}.log", "ab") as log:
            self._processes[member] = subprocess.Popen(
                [_find_binary(), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, *members):
        """Kill members, and wait for their ends."""
        for member in members:
            self._processes[member].kill()
        for member in members:
            self._processes[member].wait()

    def freeze(self, member):
        """Let a member stand still: it holds its connections, and answers no more."""
        self._processes[member].send_signal(signal.SIGSTOP)

    def leader(self):
        """Return the member that leads."""
        status = [self._status(member) for member in range(MEMBERS)]
        ids = [each["header"]["member_id"] for each in status]
        return ids.index(status[0]["leader"])

    def await_health(self, member):
        """Return once a member serves; the test's time-out bounds the wait."""
        while not self._is_healthy(member):
            select.select([], [], [], 0.05)

    def _is_healthy(self, member):
        with suppress(OSError, HTTPException):
            return b'"true"' in self._ask(member, "GET", "/health")
        return False

    def _status(self, member):
        return json.loads(self._ask(member, "POST", "/v3/maintenance/status"))

    def _ask(self, member, method, path):
        connection = HTTPConnection(self._host, self._clients[member].port, timeout=5)
        try:
            connection.request(method, path, "{}")
            return connection.getresponse().read()
        finally:
            connection.close()

    def _url(self, claims, member):
        return f"http://{Endpoint(self._host, claims[member].port)}"
