"""Writes an error record while a process ends: in whole or not at all, and within a time.

Log folders are removed while jobs run, by people and by programs that clean up. The record would
be lost with the folder, so the folder is made again.
"""

import _thread
import os

_WRITE_S = 5.0
"""How long the end of a process waits for a file system that does not answer."""

_ONLY_OWNER = 0o700
"""The mode of a log folder that is made again: the removed one may have been private."""


def write_record(path: str, record: str) -> None:
    """Write a record.

    Args:
        path: The file; it is there in whole or not at all.
        record: What stands in it then.

    Raises:
        OSError: The file can't be written.
    """
    scratch = f"{path}.{os.getpid()}.{_thread.get_ident()}"  # a second attempt may be under way
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(scratch, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), _ONLY_OWNER, exist_ok=True)
        fd = os.open(scratch, flags, 0o666)
    try:
        rest_of_it = memoryview(record.encode("utf-8", "backslashreplace"))
        while rest_of_it:
            rest_of_it = rest_of_it[os.write(fd, rest_of_it) :]
        os.rename(scratch, path)
    except BaseException:  # also of a handler of signals: another attempt follows
        os.unlink(scratch)
        raise
    finally:
        os.close(fd)


def write_record_in_time(path: str, record: str) -> None:
    """Write a record, but do not wait for ever: a file system may not answer.

    A thread that the kernel holds ends with the process. Where the system grants none, as Python
    does from 3.12 on while it ends, this thread writes.

    Args:
        path: The file; it is there in whole or not at all.
        record: What stands in it then.

    Raises:
        OSError: The file can't be written.
    """
    is_over, problems = _thread.allocate_lock(), []

    def write() -> None:
        try:
            write_record(path, record)
        except BaseException as problem:  # noqa: BLE001  the thread that waits raises it
            problems.append(problem)
        finally:
            is_over.release()

    is_over.acquire()
    try:
        _thread.start_new_thread(write, ())
    except RuntimeError:
        write()
    is_over.acquire(timeout=_WRITE_S)
    if problems:
        raise problems[0]
