"""The control socket: where `elrun status`, `stacks`, `logs` and `stop` ask an agent.

The socket stands in the folder of the run, which only this user can enter; the kernel names each
peer, and nobody is answered but the owner and root. It is made a second after the agent has begun:
jobs that end sooner have nothing to show. One thread listens, apart from the agent's loop, so that
neither delays the other: a request is answered while the loop stops workers, and no flood of
requests reaches the loop. Until the first request the thread sleeps in one ``poll``, and the server
(``agent/serving/http_server.py``) is not even loaded.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import threading
import time

from ...rendezvous.logs import Log
from ...rendezvous.threads import NoThreadError, start_thread
from ..processes.companion import Companion
from ..serving.local_sockets import is_of_owner, listen_in
from ..system.wakeup import Wakeup
from ..system.whole_writes import replace_file
from ..workers.worker import name_of, script_of
from .run_record import RECORD, SOCKET, record_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..output.run_folders import RunFolder
    from ..processes.context import PContext
    from ..serving.http_server import HttpServer
    from .members import Members
    from .watched import Watched

log = Log(__name__)

MOST_ATTEMPTS = 200
PATIENCE_S = 15.0
"""How long an answer may take: workers have two seconds for their stacks, other nodes more."""

_END_S = 2.0


def begin_control(
    watched: Watched, folder: RunFolder | None, began_at_s: float, began_at_boot_s: float
) -> ControlSocket | None:
    """Return the control socket of an agent; None: nobody could ask it anything.

    Args:
        folder: The folder of its run; None: the user wants none.
        began_at_s: When the agent has begun, in seconds since the epoch.
        began_at_boot_s: The same, in seconds since the host was started.
    """
    rounds, spec = watched.rounds, watched.group.spec
    if folder is None and not rounds.meeting_place:
        return None
    about = {
        "run_id": rounds.get_run_id(),
        "meeting_place": rounds.meeting_place,
        "name": os.path.basename(name_of(spec.entrypoint, spec.args)),
        "script": script_of(spec.entrypoint, spec.args),
        "node": os.uname().nodename,
        "agent_pid": os.getpid(),
        "began_at_s": began_at_s,
        "began_at_boot_s": began_at_boot_s,
    }
    return ControlSocket(watched, folder, about)


class ControlSocket(Companion):
    """Listens in the folder of a run.

    Args:
        folder: The folder; None: the user wants none, so that only other nodes can ask.
        about: What is known of the run from the start, for those that look for it.
    """

    def __init__(
        self, watched: Watched, folder: RunFolder | None, about: Mapping[str, Any]
    ) -> None:
        self._watched = watched
        self._folder = folder
        self._about = about
        self._attempts: list[Mapping[str, Any]] = []
        self._has_news = False
        self._is_over = False
        self._wake = Wakeup()
        self._path = ""
        self._server: HttpServer | None = None
        self._members: Members | None = None
        watched.mailbox.wake = self._nudge
        self._thread = threading.Thread(target=self._run, name="elrun-control", daemon=True)
        try:
            start_thread(self._thread)
        except NoThreadError as error:
            log.info("this run has no control socket: %s", error.strerror)

    def begin_attempt(self, workers: PContext) -> None:
        """Show these workers from now on."""
        from .standing import attempt_of  # not at the start of a job

        self._watched.workers = workers
        self._attempts = [*self._attempts[-MOST_ATTEMPTS:], attempt_of(self._watched, workers)]
        self._has_news = True
        self._nudge()

    def end_attempt(self) -> None:
        """Show no worker until the next attempt."""
        self._watched.workers = None

    def end(self) -> None:
        """Answer nobody any more; the folder stays to whoever keeps something in it."""
        self._is_over = True
        self._wake.notify()
        server = self._server
        if server is not None:
            server.stop()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if server is None and self._server is not None:  # the first request has just made it
            self._server.stop()
        if not self._thread.is_alive():
            self._wake.close()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._path, SOCKET))

    def _nudge(self) -> None:
        self._wake.notify()
        server = self._server
        if server is not None:
            server.recheck()

    def _run(self) -> None:
        listener = None
        try:
            listener = self._listen()
        except OSError as error:
            log.info("this run has no control socket: %s", error)
        self._wait_for_requests(listener)

    def _listen(self) -> _socket.socket | None:
        """Listen in the folder, which may take long: its file system may not answer."""
        if self._folder is None:
            return None
        path, listener, missing = self._folder.path(), None, []
        try:
            listener = listen_in(path, SOCKET)
        except OSError as error:
            missing.append(f"no socket in {path}: {error.strerror}")
        try:
            self._write_record(path)  # afterwards: a run that is found by it can be asked at once
        except OSError as error:
            missing.append(f"no record in {path}: {error.strerror}")
        if missing:
            log.warning(
                "this job can't be looked at while it runs: there can be %s; ELRUN_RUN_DIR names "
                "another folder",
                missing[0],
            )
        self._path = path
        return listener

    def _write_record(self, path: str) -> None:
        self._has_news = False
        text = record_text(self._about, self._attempts)
        replace_file(os.path.join(path, RECORD), text, 0o600)

    def _wait_for_requests(self, listener: _socket.socket | None) -> None:
        waiting = select.poll()
        waiting.register(self._wake.fileno(), select.POLLIN)
        if listener is not None:
            waiting.register(listener.fileno(), select.POLLIN)
        while not self._is_over:
            ready = [fd for fd, _ in waiting.poll()]
            self._wake.clear()
            self._note_news()
            if listener is not None and listener.fileno() in ready:
                self._serve(listener)
                break
        if listener is not None:  # where it was served, the server has closed it
            listener.close()

    def _note_news(self) -> None:
        if self._has_news and self._path:
            with contextlib.suppress(OSError):  # a full disk: the socket tells as much
                self._write_record(self._path)
        if notices := self._watched.mailbox.take():
            self._find_members().hear(notices)

    def _find_members(self) -> Members:
        from .members import Members  # few jobs are asked

        self._members = self._members or Members(self._watched, time.monotonic)
        return self._members

    def _serve(self, listener: _socket.socket) -> None:
        import socket  # few jobs are asked

        from ..serving.http_server import HttpServer
        from .answers import Answers

        answers = Answers(self._watched, self._find_members())
        server = HttpServer(
            lambda: socket.socket(fileno=listener.detach()),
            answers.respond,
            PATIENCE_S,
            is_of_owner,
            self._note_news,
        )
        answers.recheck = server.recheck
        self._server = server
        if not self._is_over:
            server.serve()
