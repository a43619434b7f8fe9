"""The control socket is there for everybody who finds the run."""

import contextlib
import threading
from types import SimpleNamespace

from elrun.agent.control import companion
from elrun.agent.control.companion import SOCKET, ControlSocket
from elrun.agent.control.run_record import RECORD
from elrun.agent.control.watched import Mailbox
from elrun.agent.serving.local_sockets import connect_in
from elrun.agent.system.whole_writes import replace_file

PATIENCE_S = 30


def test_a_run_that_can_be_found_can_be_asked(tmp_path, monkeypatch):
    """The record, by which a run is found, comes after the socket."""
    is_to_be_found, may_write = threading.Event(), threading.Event()

    def write_in_time(*args):
        is_to_be_found.set()
        assert may_write.wait(PATIENCE_S)
        replace_file(*args)

    monkeypatch.setattr(companion, "replace_file", write_in_time)
    watched = SimpleNamespace(mailbox=Mailbox())
    folder = SimpleNamespace(path=lambda: str(tmp_path))
    control = ControlSocket(watched, folder, {"run_id": "x"})

    assert is_to_be_found.wait(PATIENCE_S)
    with contextlib.closing(connect_in(str(tmp_path), SOCKET, PATIENCE_S)):
        is_found = (tmp_path / RECORD).exists()
    may_write.set()
    control.end()

    assert (False, False) == (is_found, (tmp_path / SOCKET).exists())
