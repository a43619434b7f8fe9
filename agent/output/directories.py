"""Makes and removes the directories that log files and error files stand in.

A file system may hang, and a process that waits for it in the kernel hears no signal: so what is
done outside the agent's loop is done in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat

from ...rendezvous.logs import Log
from ...rendezvous.threads import Call
from ..system.environ import inherited_environment
from ..system.pidfd import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

log = Log(__name__)

PATIENCE_S = 5.0
"""How long a file system may take before a line says that the job waits for it."""

_REMOVAL_S = 2.0
_OF_WORKERS = ("stdout.log", "stderr.log", "error.json", "error.json.kept", "error.json.stacks")
_FILTERED = ("filtered_stdout.log", "filtered_stderr.log")

_MAX_NAME_LENGTH = 60  # in letters of up to four bytes: a file name has room for 255


def make_usable(log_dir: str) -> None:
    """Make a directory that the user named, where it is missing; a signal's handler may raise.

    Raises:
        ValueError: It can't be made, or written to.
    """
    call = Call(lambda: _make_usable(log_dir), "elrun-folders", or_here=True)
    if not call.wait(PATIENCE_S):
        tell_of_a_hang(log_dir)
        call.wait(NEVER)
    call.result()


def tell_of_a_hang(folder: str) -> None:
    """Warn that folders for log files are waited for."""
    log.warning(
        "folders for log files can't be made in %s: its file system does not answer, and the job "
        "waits for it",
        repr(folder) if folder else "the folder for temporary files",
    )


def _make_usable(log_dir: str) -> None:
    try:
        os.makedirs(log_dir, exist_ok=True)
    except OSError as error:
        raise unusable(log_dir, error) from error
    if not os.access(log_dir, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(log_dir).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise unusable(log_dir, OSError(number, os.strerror(number)))


def make_temporary_dir() -> str:
    """Make a directory that only this user can read.

    Raises:
        OSError: No place for temporary files can be written to; it names the first and what to do.
    """
    environ = inherited_environment()
    name = next(filter(environ.get, ("TMPDIR", "TEMP", "TMP")), "")
    place = environ[name] if name else "/tmp"
    try:
        return _make_private_dir(place, "elrun_")
    except OSError as error:
        refused = error
    from tempfile import mkdtemp  # 4 ms; it looks further for a place

    try:
        path = mkdtemp(prefix="elrun_")
    except OSError as error:
        advice = f"{refused.strerror}; set TMPDIR to a folder that you can write to"
        raise OSError(refused.errno, advice, place) from error
    if name:
        instead = os.path.dirname(path)
        log.warning("%s=%s: %s; %s is used instead", name, place, refused.strerror, instead)
    return path


def run_name(env: Mapping[str, str]) -> str:
    """Return what a run's folder is called: the run's id, and which of SLURM's starts it is.

    Args:
        env: What is added to a worker's environment.
    """
    name, own = env.get("TORCHELASTIC_RUN_ID", "run"), env.get("TORCHELASTIC_RESTART_COUNT", "0")
    earlier = 0
    with contextlib.suppress(ValueError):  # a caller of `reify` may give any text
        earlier = int(env.get("ELRUN_TOTAL_RESTARTS", own)) - int(own)
    return f"{name}_restart{earlier}" if earlier else name


def make_run_dir(root: str, run_id: str) -> str:
    """Make a directory for one run, unlike that of any other with this id.

    Returns:
        Its absolute path: a worker may change its working directory.

    Raises:
        OSError: It can't be made.
    """
    return _make_private_dir(os.path.abspath(root), f"{_file_name(run_id)}_")


def make_attempt_dir(run_dir: str, restarts: str, nprocs: int) -> str:
    """Make a directory for one attempt, with one for each worker.

    A worker group also starts again without a restart, when the membership changes. What it printed
    before is kept: its next directory is ``attempt_<restarts>.1``, and so on.

    Raises:
        OSError: It can't be made.
    """
    first = os.path.join(run_dir, f"attempt_{_file_name(restarts)}")
    for path in itertools.chain([first], (f"{first}.{n}" for n in itertools.count(1))):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            break
    for local_rank in range(nprocs):
        os.mkdir(os.path.join(path, str(local_rank)))
    return path


def remove_needless(root: str, *, copied: bool = False) -> bool:
    """Remove a directory of elrun's as far as nobody needs what is in it, within 2 s.

    Args:
        copied: Whether all output was shown on the console, too, and the workers have succeeded.

    Returns:
        Whether anything is left of it.
    """
    call = Call(lambda: remove_needless_now(root, copied=copied), "elrun-folders", or_here=True)
    return not call.wait(_REMOVAL_S) or call.result()


def remove_needless_now(root: str, *, copied: bool = False) -> bool:
    """Remove what ``remove_needless`` does, however long it takes; only system calls are made."""
    for path, _, names in os.walk(root, topdown=False):
        for name in names:
            file = os.path.join(path, name)
            with contextlib.suppress(OSError):
                if _is_needless(name, os.lstat(file), copied=copied):
                    os.unlink(file)
        with contextlib.suppress(OSError):  # something is left there
            os.rmdir(path)
    return os.path.lexists(root)


def _is_needless(name: str, status: os.stat_result, *, copied: bool) -> bool:
    if name not in (*_OF_WORKERS, *_FILTERED) or not stat.S_ISREG(status.st_mode):
        return stat.S_ISFIFO(status.st_mode)  # of timers
    return status.st_size == 0 or (copied and name in _OF_WORKERS)


class UnusableLogDirError(ValueError, OSError):
    """A directory for log files can't be used; torch raises an OSError."""


class NoLogDirError(UnusableLogDirError, NotADirectoryError):
    """A file stands where a directory for log files, or one above it, should be."""


def unusable(log_dir: str, error: OSError) -> UnusableLogDirError:
    """Return the error that tells a user why the directory that they named is no good."""
    is_of_file = isinstance(error, (FileExistsError, NotADirectoryError))
    kind = NoLogDirError if is_of_file else UnusableLogDirError
    reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
    return kind(
        f"log_dir {log_dir!r} can't be used: {reason}; give a directory that you can write to"
    )


def _make_private_dir(parent: str, prefix: str) -> str:
    while True:
        path = os.path.join(parent, prefix + os.urandom(4).hex())
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path


def _file_name(text: str) -> str:
    """Return a text as a part of a file name, which leads nowhere else."""
    # By hand: a regular expression is compiled for longer than all directories take.
    name = "".join(each if each.isalnum() or each in "_.=+@-" else "_" for each in text)
    return (f"_{name[1:]}" if name.startswith(".") else name)[:_MAX_NAME_LENGTH]
