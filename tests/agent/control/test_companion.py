"""The control socket gives back what it held, whenever it is ended."""

import contextlib
import os
from types import SimpleNamespace

import pytest
import worker_kit
from elrun.agent.control.companion import ControlSocket
from elrun.agent.control.run_record import SOCKET
from elrun.agent.control.watched import Mailbox
from elrun.agent.output.run_folders import RunFolder
from elrun.agent.serving.local_sockets import connect_in

pytestmark = pytest.mark.integration


def descriptors():
    """Return what this process has open."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def is_listening(folder):
    """A socket has a name a moment before it takes connections."""
    try:
        connect_in(folder, SOCKET, 30).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("requests", [0, 1])
def test_nothing_is_left_open(tmp_path, requests):
    """A program may run one job after the other."""
    before = descriptors()
    folder = RunFolder(lambda: str(tmp_path), "job")
    control = ControlSocket(SimpleNamespace(mailbox=Mailbox()), folder, {})
    path = folder.path()
    worker_kit.wait_until(lambda: is_listening(path))

    for _ in range(requests):
        with contextlib.closing(connect_in(path, SOCKET, 30)) as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 404")
    control.end()
    folder.discard()

    assert descriptors().items() <= before.items()  # another test's may have been collected
