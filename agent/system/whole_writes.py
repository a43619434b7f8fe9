"""Writes all bytes, and replaces files: a reader sees the old version or the new one, no half."""

from __future__ import annotations

import contextlib
import os


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes, however many writes that takes.

    Raises:
        OSError: They can't be written; a part of them may be.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace_file(path: str, data: bytes, mode: int = 0o666) -> None:
    """Put a new version in the place of a file, or make the file; nothing is left of a failure.

    Args:
        path: The file, which must be no link: a link would be replaced itself.
        mode: Its permissions, of which the umask takes some.

    Raises:
        OSError: It can't be written.
    """
    scratch = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(scratch, flags, mode)
    try:
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        os.replace(scratch, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
