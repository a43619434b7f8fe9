"""The control socket is there for everybody who finds the run."""

import contextlib
import os
from types import SimpleNamespace

from elrun.agent.control.companion import SOCKET, ControlSocket
from elrun.agent.control.run_record import RECORD
from elrun.agent.control.watched import Mailbox
from elrun.agent.serving.local_sockets import connect_in

PATIENCE_S = 30


def test_a_run_that_can_be_found_can_be_asked(tmp_path):
    """The record, by which a run is found, comes after the socket."""
    scratch = tmp_path / f"{RECORD}.new"
    os.mkfifo(scratch)  # the agent's thread can't write the record until somebody reads this
    watched = SimpleNamespace(mailbox=Mailbox())
    folder = SimpleNamespace(path=lambda: str(tmp_path))
    control = ControlSocket(watched, folder, {"run_id": "x"})

    with open(scratch, "rb") as record:
        with contextlib.closing(connect_in(str(tmp_path), SOCKET, PATIENCE_S)):
            is_found = (tmp_path / RECORD).exists()
        record.read()
    control.end()

    assert (False, False) == (is_found, (tmp_path / SOCKET).exists())
