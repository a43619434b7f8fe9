"""Who holds a port, of a real Linux."""

import os
import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.network.port_holder import holder_of

LISTEN = """import socket, sys
server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True)
sys.stdin.read()"""
ASK = """
import os, psutil, pwd, sys
from elrun.rendezvous.network.port_holder import holder_of
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
    """By the beginning of its command and by its pid, over IPv4 and IPv6."""
    with open("/proc/self/cmdline", encoding="utf-8") as file:
        command = " ".join(file.read().split("\0")).strip()
    shown = command if len(command) <= 60 else f"{command[:60]}…"

    assert f"{shown!r} (pid {os.getpid()})" == holder_of(port)


@pytest.mark.integration
def test_a_long_command_is_cut():
    """What it was started with may be pages; its beginning says which program it is."""
    command = [sys.executable, "-c", LISTEN, "x" * 1000]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        port = int(it.stdout.readline())
        said = holder_of(port)
        it.stdin.close()

    assert f"{' '.join(command)[:60] + '…'!r} (pid {it.pid})" == said


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
