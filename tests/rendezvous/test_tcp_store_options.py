"""What torch's store server has to be told, by the version of torch."""

import pytest
from elrun.rendezvous.tcp_store import listening_server_options


@pytest.mark.parametrize("version", ["2.4.1+cu121", "2.7.1+cpu", "2.7.0a0+git123"])
def test_an_old_torch_serves_at_a_listening_socket_without_libuv(version):
    """Its server of libuv refuses one."""
    assert {"use_libuv": False} == listening_server_options(version)


@pytest.mark.parametrize("version", ["2.8.0", "2.10.0+cpu", "2.15.0a0+git123", "3.0.0"])
def test_a_newer_torch_chooses_by_itself(version):
    """Both of its servers can."""
    assert {} == listening_server_options(version)
