"""Who holds a port, found in /proc of a real Linux."""

import os
import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.port_holder import holder_of

ASK = """
import os, pwd, sys
from elrun.rendezvous.port_holder import holder_of
os.setuid(65534)
print(holder_of(int(sys.argv[1])))
"""


@pytest.fixture(params=["127.0.0.1", "::1"], name="port")
def _port(request):
    """Return a port on which this process listens."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield server.getsockname()[1]


def test_a_process_of_the_same_user_is_named(port):
    """By its command and its pid, over IPv4 and IPv6."""
    with open("/proc/self/comm", encoding="ascii") as file:
        command = file.read().strip()

    assert f"{command} (pid {os.getpid()})" == holder_of(port)


def test_a_port_that_nobody_holds_is_no_error():
    """The other program may have gone meanwhile."""
    with socket.socket() as bound:  # so that nobody can listen there
        bound.bind(("127.0.0.1", 0))

        assert "another program" == holder_of(bound.getsockname()[1])


def test_a_connection_does_not_hold_a_port():
    """Its local port is no place where anybody listens."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert "another program" == holder_of(client.getsockname()[1])


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_of_another_users_process_the_user_is_named(port):
    """More can't be seen."""
    command = [sys.executable, "-c", ASK, str(port)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert "a process of user root\n" == said
