"""Leaves a job's last sentence where Kubernetes looks for it: the container's termination log."""

from __future__ import annotations

import contextlib
import os
import stat

from ..rendezvous.logs import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

log = Log(__name__)

MOST_BYTES = 4096
"""What Kubernetes reads of the file."""

_PATH_VARIABLE, _USUAL_PATH = "TERMINATION_LOG", "/dev/termination-log"


def leave_last_sentence(sentence: str, environ: Mapping[str, str], error_file: str = "") -> None:
    """Write why elrun ends to the termination log, if there is one.

    The file is a mount of its own, so it is written in place. ``TERMINATION_LOG`` names another one
    (``terminationMessagePath``).

    Args:
        sentence: Why elrun ends.
        environ: elrun's environment.
        error_file: This process's own error file; if that is the same file, it stays as it is.
    """
    path = environ.get(_PATH_VARIABLE)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path or _USUAL_PATH, flags | (os.O_CREAT if path else 0), 0o644)
    except OSError as error:
        log.info("%s: nothing is left there: %s", path or _USUAL_PATH, error.strerror)
        return
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and not _is_same(status, error_file):
            os.ftruncate(fd, 0)
            os.write(fd, _beginning_of(sentence))
    except OSError as error:
        log.info("%s can't be written: %s", path or _USUAL_PATH, error.strerror)
    finally:
        os.close(fd)


def _is_same(status: os.stat_result, other: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(other) and os.path.samestat(status, os.stat(other))
    return False


def _beginning_of(sentence: str) -> bytes:
    data = sentence.encode("utf-8", "replace")[:MOST_BYTES]
    return data.decode("utf-8", "ignore").encode()
