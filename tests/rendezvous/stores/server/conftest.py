"""Certificates of a job, made once for each file of tests, and a free port."""

import pytest
from certificate_kit import Authority
from elrun.rendezvous.network.ports import PortClaim


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
