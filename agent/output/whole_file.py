"""A file that is rewritten at each change, and whole at every moment: a reader never sees a half.

A thread writes it, so that a file system that does not answer holds nobody up; if changes come
faster than it writes, the newest one counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading

from ...rendezvous.logs import Log
from ...rendezvous.threads import NoThreadError, call_in_time, start_daemon
from ..system.whole_writes import replace_file

log = Log(__name__)

FIRST_WRITE_S = 10.0
"""How long the file system may take for the first version, before anything starts."""

SETTLE_S = 5.0
"""How long it may take for the last one, at the end."""

_THREAD = "elrun-report"


class WholeFile:
    """One file, which is replaced by each new version of it.

    Args:
        path: Its path; the folder is there. A link to a file stays, and the file is replaced.
        what: What people call it, for a warning.
    """

    def __init__(self, path: str, what: str) -> None:
        self._path = path
        self._what = what
        self._changed = threading.Condition()
        self._newest: bytes | None = None
        self._is_closing = False
        self._has_warned = False
        self._thread: threading.Thread | None = None

    def write_first(self, data: bytes, begins_with: bytes = b"") -> None:
        """Write the first version, before anything starts.

        Args:
            begins_with: How a file begins that may be replaced; another one is somebody's.

        Raises:
            OSError: That is not possible: no such folder, no permission, no regular file, no
                answer within ten seconds, or somebody's file.
        """

        def replace() -> None:
            self._require_own(begins_with)
            self._replace(data)

        try:
            call_in_time(replace, FIRST_WRITE_S, _THREAD)
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "the file system does not answer") from error

    def require_possible(self, begins_with: bytes = b"") -> None:
        """See, without a change, whether the first version could be written.

        Args:
            begins_with: How a file begins that may be replaced.

        Raises:
            OSError: It could not.
        """
        self._require_own(begins_with)
        path = os.path.realpath(self._path)
        folder = os.path.dirname(path)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "this is a folder; give the path of a file")
        if os.path.lexists(path):
            _require_regular(path)
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
        if not os.access(folder, os.W_OK | os.X_OK) or not os.statvfs(folder).f_blocks:
            raise PermissionError(errno.EACCES, f"nothing can be written in {folder}")

    def write(self, data: bytes) -> None:
        """Have a new version written soon; a version that can't be written is named once."""
        with self._changed:
            self._newest, self._is_closing = data, False
            self._changed.notify_all()
            if self._thread is None:
                with contextlib.suppress(NoThreadError):  # the last version is written at the end
                    self._thread = start_daemon(self._run, _THREAD)

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Wait until the newest version is written and the thread has ended, for a bounded time."""
        with self._changed:
            if self._thread is not None:
                self._is_closing = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._thread is None, timeout_s)
                return
            data, self._newest = self._newest, None
        if data is not None:
            self._try_to_replace(data)

    def _run(self) -> None:
        while (data := self._next()) is not None:
            self._try_to_replace(data)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._is_closing)
            data, self._newest = self._newest, None
            if data is None:
                self._thread = None
                self._changed.notify_all()
            return data

    def _try_to_replace(self, data: bytes) -> None:
        try:
            self._replace(data)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("%s can't be written to %s: %s", self._what, self._path, error.strerror)

    def _require_own(self, begins_with: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self._path)
            if not stat.S_ISREG(status.st_mode):
                return  # which is refused anyway
            if any(_leads_to(fd, status) for fd in (1, 2)):
                raise FileExistsError(errno.EEXIST, "the job's output goes there")
            with open(self._path, "rb") as file:
                if file.read(len(begins_with) or 1) not in (b"", begins_with):
                    raise FileExistsError(errno.EEXIST, "there is another file, no report")

    def _replace(self, data: bytes) -> None:
        path = os.path.realpath(self._path)  # which asks the file system
        with contextlib.suppress(FileNotFoundError):
            _require_regular(path)
        replace_file(path, data)


def _require_regular(path: str) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a device would become a file
        raise OSError(errno.EINVAL, "this is no regular file")


def _leads_to(fd: int, status: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # it is closed
        return os.path.samestat(status, os.fstat(fd))
    return False
