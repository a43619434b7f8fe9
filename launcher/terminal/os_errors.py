"""What the system has run out of when it refuses something, and what a person can do."""

from __future__ import annotations

import errno

_ADVICE = {
    errno.EMFILE: "raise the limit of open files (ulimit -n), or start fewer workers",
    errno.ENFILE: "the whole machine has no more open files to give",
    errno.EAGAIN: (
        "raise the limit of processes and threads (ulimit -u, or the container's), or start fewer "
        "workers"
    ),
    errno.ENOMEM: "it has no more memory; start fewer workers, or raise the container's limit",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or ask for more",
    errno.ENOSYS: "elrun needs Linux 5.3 or newer, and a sandbox that knows pidfd_open",
    errno.EROFS: "name a place that can be written to",
}


def shortage_behind(error: BaseException) -> str:
    """Return what was refused and what to do about it; "" where the error tells of no shortage.

    Args:
        error: What was raised; by the system, it is an OSError.
    """
    if not isinstance(error, OSError) or error.errno not in _ADVICE:
        return ""
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{place}; {_ADVICE[error.errno]}"
