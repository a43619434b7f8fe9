"""The control socket gives back what it held, whenever it is ended."""

import contextlib
import json
import os
from types import SimpleNamespace

import pytest
import worker_kit
from elrun.agent.control.companion import ControlSocket, begin_control
from elrun.agent.control.run_record import RECORD, SOCKET
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


def test_the_record_says_when_the_job_began_by_both_clocks(tmp_path):
    """A second before there was a record; see ``Run.began_at_s`` for why both are there."""
    spec = SimpleNamespace(entrypoint="train", args=())
    rounds = SimpleNamespace(get_run_id=lambda: "job", meeting_place="")
    watched = SimpleNamespace(mailbox=Mailbox(), group=SimpleNamespace(spec=spec), rounds=rounds)
    folder = RunFolder(lambda: str(tmp_path), "job")

    control = begin_control(watched, folder, 1.7e9, 50.0)

    path = folder.path()
    worker_kit.wait_until(lambda: is_listening(path))
    worker_kit.wait_until(lambda: os.path.exists(os.path.join(path, RECORD)))
    with open(os.path.join(path, RECORD)) as record:
        about = json.load(record)
    control.end()
    folder.discard()
    assert (1.7e9, 50.0) == (about["began_at_s"], about["began_at_boot_s"])
