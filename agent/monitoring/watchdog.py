"""The agent's timer server: ends a worker whose timer has expired, and reports its stack."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...rendezvous.logs import Log
from ...rendezvous.threads import NoThreadError
from ..failures.error_record import error_record
from ..failures.error_writer import write_error_file
from ..output.directories import make_temporary_dir
from ..processes.companion import Companion
from ..processes.context import PContext
from ..system.pidfd import send_signal
from ..system.process_states import describe_state
from ..system.stacks import abort_with_stack, shows_stack_at_abort, take_stack
from ..timers.file_server import FileTimerServer, descends_from
from ..timers.table import Stuck
from ..workers.environment import TIMER_FILE

if TYPE_CHECKING:
    from ..timers.file_client import FileTimerRequest

log = Log(__name__)

_FAULT_HANDLER = "PYTHONFAULTHANDLER"


class Watchdog(FileTimerServer, Companion):
    """Ends workers of the running attempt whose timers have expired.

    Args:
        own_dir: A directory that was made for the pipe and is removed with it; or "".
        show_stacks: The value of ``PYTHONFAULTHANDLER`` for the workers.
        log_event: Called with the name of an event and the request that caused it.
    """

    def __init__(
        self,
        file_path: str,
        run_id: str,
        own_dir: str = "",
        show_stacks: str = "1",
        log_event: Callable[[str, FileTimerRequest | None], None] | None = None,
    ) -> None:
        super().__init__(file_path, run_id, log_event=log_event)
        self.own_dir = own_dir
        self._show_stacks = show_stacks
        self._workers: PContext | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables for the workers' environment."""
        # The fault handler is for torch's client, which offers no stack: see `stacks`.
        return {TIMER_FILE: self.file_path, _FAULT_HANDLER: self._show_stacks}

    def begin_attempt(self, workers: PContext) -> None:
        """Let the timers of these workers count from now on."""
        self._workers = workers
        self._wake.notify()

    def end_attempt(self) -> None:
        """Let no timer expire until the next attempt."""
        self._restore_pipe()
        self._workers = None
        self._wake.notify()

    def end(self) -> None:
        """Stop the server, and remove the directory that was made for it."""
        self.stop()
        if self.own_dir:
            with contextlib.suppress(OSError):
                os.rmdir(self.own_dir)

    def _is_waiting_for_workers(self) -> bool:
        return self._workers is None

    def _may_reap(self, pid: int) -> bool:
        return self._worker_of(pid) is not None

    def _reap(self, stuck: Stuck, pidfd: int) -> None:
        local_rank = self._worker_of(stuck.pid)
        workers = self._workers
        if local_rank is None or workers is None:
            return
        number = stuck.timer.request.signal
        reason = stuck.description
        is_worker = stuck.pid == workers.pids().get(local_rank)
        if is_worker:  # first: the signal that asks for the stack may wake the worker
            workers.mark_failed(local_rank, reason)
        stack = take_stack(stuck.pid, pidfd, stuck.timer.request.stack)
        will_abort = not stack and number == signal.SIGKILL and shows_stack_at_abort(stuck.pid)
        if not stack:
            reason += _explain_missing_stack(stuck.pid, will_abort=will_abort)
        log.info("local rank %d (pid %d) %s", local_rank, stuck.pid, reason)
        # Before the worker dies: then the agent reads the file at once.
        _leave_error_file(workers.error_file(local_rank), reason, stack)
        if is_worker:
            workers.mark_failed(local_rank, reason)
        if not (will_abort and abort_with_stack(stuck.pid, pidfd)):
            send_signal(pidfd, number)

    def _worker_of(self, pid: int) -> int | None:
        """Return the local rank of a process that is a worker or a descendant of one; else None."""
        workers = self._workers.pids() if self._workers else {}
        for local_rank, worker in workers.items():
            if pid == worker or descends_from(pid, {worker}):
                return local_rank
        return None


def begin_watchdog(
    environ: Mapping[str, str],
    run_id: str,
    log_event: Callable[[str, FileTimerRequest | None], None] | None = None,
) -> Watchdog | None:
    """Start a watchdog; if that fails, log a warning and return None.

    Args:
        log_event: Called with the name of an event and the request that caused it.
    """
    watchdog = None
    named = environ.get(TIMER_FILE)
    show_stacks = environ.get(_FAULT_HANDLER, "1")  # the user's value is kept
    if named:
        try:
            watchdog = Watchdog(os.path.abspath(named), run_id, "", show_stacks, log_event)
        except OSError as error:
            log.warning(
                "timers: %s=%s can't be used: %s; workers find another one there",
                TIMER_FILE,
                named,
                error.strerror,
            )
    try:
        if watchdog is None:
            own_dir = make_temporary_dir()
            pipe = os.path.join(own_dir, "timers")
            watchdog = Watchdog(pipe, run_id, own_dir, show_stacks, log_event)
    except OSError as error:
        reason = error.strerror or error
        log.warning("workers can set no timers: no pipe in %s: %s", error.filename, reason)
        return None
    try:
        watchdog.start()
    except NoThreadError as error:
        watchdog.stop()
        log.warning("workers can set no timers: %s", error.strerror)
        return None
    return watchdog


def _explain_missing_stack(pid: int, *, will_abort: bool) -> str:
    state = describe_state(pid)
    if will_abort:
        place = "its stack stands on its standard error"
        return f" ({state}; {place})" if state else f" ({place})"
    return f" ({state}; it offered no stack)" if state else " (it offered no stack)"


def _leave_error_file(path: str, reason: str, stack: str) -> None:
    """Write an error file for a worker, unless the worker has written its own."""
    if not path:
        return
    scratch = f"{path}.{os.urandom(4).hex()}"
    try:
        write_error_file(scratch, error_record(reason, stack, int(time.time())))
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
        os.unlink(scratch)
    except OSError as error:  # the reason is also in the worker's failure
        log.info("%s: the error file can't be written: %s", path, error)
