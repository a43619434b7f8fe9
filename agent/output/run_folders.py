"""The folders of runs: a private one for each agent's run, of which the latest are kept.

``ELRUN_RUN_DIR`` names the folder that holds them, else that is ``elrun`` in ``XDG_RUNTIME_DIR``,
else ``elrun-UID`` in the temporary folder. Only that last folder is made. An agent locks its run's
folder for as long as it lives: a folder that nobody has locked belongs to a run that has ended,
however it did.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time

from ...rendezvous.logs import Log
from ...rendezvous.threads import Call
from .whole_file import SETTLE_S, WholeFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = Log(__name__)

MOST_ENDED = 20
"""How many folders of runs that have ended are kept."""

LONGEST_S = 7 * 86_400
"""For how long they are kept."""

FOLDER_VARIABLE = "ELRUN_RUN_DIR"
_ENDING = ".run"
_DISCARD_S = 2.0
_MOST_NAME_CHARS = 60


def wants_folder(variables: Mapping[str, str]) -> bool:
    """Return whether the user wants a folder for runs; no file system is asked."""
    return variables.get(FOLDER_VARIABLE) != os.devnull


def folder_of_runs(variables: Mapping[str, str]) -> str:
    """Return the path of the folder that holds runs; "" where the user wants none.

    The file systems of the candidates are asked, and may not answer.
    """
    wanted = variables.get(FOLDER_VARIABLE)
    if wanted:
        return os.path.abspath(wanted) if wants_folder(variables) else ""
    runtime = variables.get("XDG_RUNTIME_DIR")
    if runtime:
        with contextlib.suppress(OSError):
            if os.stat(runtime).st_uid == os.geteuid():  # not that of whom `sudo` was called by
                return os.path.join(runtime, "elrun")
    place = variables.get("TMPDIR", "")
    if not takes_files(place):  # as Python's tempfile does
        place = "/tmp"  # checked below
    return os.path.join(place, f"elrun-{os.geteuid()}")


def takes_files(folder: str) -> bool:
    """Return whether files can be made in a folder, as far as its file system tells."""
    try:
        # /proc and its like have no blocks, and give root all rights.
        return os.access(folder, os.W_OK | os.X_OK) and os.statvfs(folder).f_blocks > 0
    except OSError:
        return False


class NoRunFolder(OSError):
    """The folder that the user has named for runs can't be used, which a warning has said."""


class RunFolder:
    """The folder of one run, which is made when something is kept in it for the first time.

    Args:
        find_parent: Returns the folder that holds runs; called by what makes the folder, as the
            file system may take long.
        is_named: Whether the user has named that folder: it is said if it can't be used.
    """

    def __init__(
        self, find_parent: Callable[[], str], run_id: str, *, is_named: bool = False
    ) -> None:
        self._find_parent = find_parent
        self._run_id = run_id
        self._is_named = is_named
        self._has_warned = False
        self._making = threading.Lock()
        self._path = ""
        self._lock_fd = -1

    def path(self) -> str:
        """Return the path; make the folder, and remove those of old runs, if it is not there yet.

        Any thread may call this, but the file system may take long.

        Raises:
            NoRunFolder: The folder can't be made where the user has named one.
            OSError: It can't be made in any other folder.
        """
        with self._making:
            if not self._path:
                parent = self._find_parent()
                try:
                    self._path, self._lock_fd = make_run_folder(parent, self._run_id)
                except OSError as error:
                    error.filename = parent
                    if self._is_named:
                        self._warn(error)
                        raise NoRunFolder(error.errno, error.strerror, parent) from error
                    raise
                remove_old_runs(parent)
            return self._path

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "this job can't be looked at, and its report and history are not kept: nothing can "
                "be kept in %s (%s): %s",
                error.filename,
                FOLDER_VARIABLE,
                error.strerror,
            )

    def release(self) -> None:
        """Let the folder count as that of a run that has ended."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        """Remove the folder, if it was made: this run needs none.

        A file system that does not answer is left alone after a moment.
        """
        if self._path or self._making.locked():
            Call(self._remove, "elrun-folders", or_here=True).wait(_DISCARD_S)
        self.release()

    def _remove(self) -> None:
        with self._making:
            path, self._path = self._path, ""
            if path:
                with contextlib.suppress(OSError):
                    _remove(path)


class RunFile(WholeFile):
    """A file in the folder of a run; the thread that writes the file makes the folder, too.

    Args:
        what: What people call the file, for a warning.
    """

    def __init__(self, folder: RunFolder, name: str, what: str) -> None:
        super().__init__("", what)
        self._folder = folder
        self._name = name

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Wait for the last version; then the folder counts as that of a run that has ended."""
        super().settle(timeout_s)
        self._folder.release()

    def _replace(self, data: bytes) -> None:
        try:
            self._path = os.path.join(self._folder.path(), self._name)
        except NoRunFolder:  # that has been said, of all that would be kept there
            return
        except OSError as error:
            self._path = str(error.filename)
            raise
        super()._replace(data)


def make_run_folder(parent: str, run_id: str) -> tuple[str, int]:
    """Make the folder of a run, private and locked; return its path and the lock's descriptor.

    Args:
        parent: The folder that holds runs; it is made if it is not there, and no folder above it.

    Raises:
        OSError: It can't be made, or the parent is in other hands.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(parent, 0o700)
    status = os.lstat(parent)
    if os.path.basename(parent) == f"elrun-{os.geteuid()}" and not _is_private(status):
        raise OSError(errno.EPERM, "this folder is not a private one of this user's")
    safe = "".join(each if each.isalnum() or each in "._-" else "_" for each in run_id)
    node = os.uname().nodename
    name = f"{safe[:_MOST_NAME_CHARS]}_{node}_{os.getpid()}_{os.urandom(3).hex()}{_ENDING}"
    folder = os.path.join(parent, name)
    os.mkdir(folder, 0o700)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks: nobody removes it by age
        fcntl.flock(fd, fcntl.LOCK_EX)  # one who looks may hold it for a moment
    return folder, fd


def remove_old_runs(parent: str, now_s: float | None = None) -> None:
    """Remove the folders of runs that ended long ago, and of the earliest ones of too many.

    Args:
        parent: The folder that holds runs; what else is in it stays.
        now_s: The time, in seconds since the epoch.
    """
    oldest_s = (time.time() if now_s is None else now_s) - LONGEST_S
    ended = sorted(_ended_runs(parent), reverse=True)
    for position, (changed_s, folder) in enumerate(ended):
        if position >= MOST_ENDED or changed_s < oldest_s:
            with contextlib.suppress(OSError):
                _remove(folder)


def _ended_runs(parent: str) -> Iterator[tuple[float, str]]:
    """Yield the folders of runs whose agent has gone, with the time of their last change."""
    try:
        entries = list(os.scandir(parent))
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if is_ours and entry.name.endswith(_ENDING) and not is_in_use(entry.path):
                yield status.st_mtime, entry.path


def is_in_use(folder: str) -> bool:
    """Return whether a run's agent lives, as its lock says.

    Raises:
        OSError: The folder is not there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two that look don't disturb each other
    except OSError:  # or the file system has no locks: it may be in use
        return True
    finally:
        os.close(fd)
    return False


def _is_private(status: os.stat_result) -> bool:
    is_others = status.st_mode & 0o077
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_others


def _remove(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)
