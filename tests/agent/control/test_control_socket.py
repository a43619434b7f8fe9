"""The control socket is there for everybody who finds the run."""

import contextlib
import threading
import time
from types import SimpleNamespace

from elrun.agent.control import companion
from elrun.agent.control.companion import ControlSocket
from elrun.agent.control.run_record import RECORD, SOCKET
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


def test_a_run_whose_record_can_not_be_written_says_so(small_disk, caplog):
    """Nobody finds it: that is said before somebody looks for it in vain."""
    folder = SimpleNamespace(path=lambda: str(small_disk))
    with contextlib.suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    control = ControlSocket(SimpleNamespace(mailbox=Mailbox()), folder, {"run_id": "x"})
    while not caplog.messages:
        time.sleep(0.01)
    control.end()

    [message] = caplog.messages
    expected = (
        f"this job can't be looked at while it runs: there can be no record in {small_disk}: No "
        "space left on device; ELRUN_RUN_DIR names another folder"
    )
    assert expected == message
