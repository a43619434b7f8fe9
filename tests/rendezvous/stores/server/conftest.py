"""Certificates of a job, made once for each file of tests, free ports and store servers."""

import pytest
from certificate_kit import Authority
from elrun.rendezvous.network.ports import PortClaim
from server_kit import Listening


@pytest.fixture(scope="module", name="authority")
def _authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture(scope="module", name="config")
def _config(authority):
    return {"cacert": authority.path, **authority.certify("node")}


@pytest.fixture(name="port")
def _port():
    """Return a port that nobody uses, outside of the range that the kernel gives out."""
    claim = PortClaim.take()
    yield claim.port
    claim.release()


@pytest.fixture(name="open_server")
def _open_server():
    """Start store servers, which end with the test."""
    servers = []

    def make(*args, **options):
        servers.append(Listening(*args, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(name="server")
def _server(open_server):
    return open_server()
