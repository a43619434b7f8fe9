"""Timers over a named pipe: the format of a request, and the worker's end of the pipe.

Each request is a line of JSON, as torch's own client writes it::

    {"version": 1, "pid": 4711, "scope_id": "all-reduce", "expiration_time": 1790000000.5,
     "signal": 9}

elrun's client adds how to get the process's stack: see ``stacks``. Writes of at most ``PIPE_BUF``
bytes are atomic, so many workers may share the pipe.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from dataclasses import dataclass
from typing import Any

from ..json_objects import object_in
from ..system.stacks import NO_STACK, StackOffer, offer_stack
from .api import TimerClient, TimerRequest

VERSION = 1
MAX_REQUEST_BYTES = select.PIPE_BUF
WRITE_S = 5.0

_RELEASED = -1.0
_LATEST_S = sys.float_info.max
_LARGEST_PID = 1 << 22  # of Linux: PID_MAX_LIMIT
_NOBODY_READS = (errno.ENXIO, errno.ENOENT)


@dataclass(frozen=True, slots=True, init=False)
class FileTimerRequest(TimerRequest):
    """A request of a process of this node to set or release a timer.

    Args:
        worker_pid: The process id.
        scope_id: Name of the guarded code.
        expiration_time: When the timer expires, in seconds since the epoch; negative: release it.
        signal: The signal that ends the process; 0 or less: the process is not ended.
        stack: How to get the process's stack.
    """

    signal: int
    stack: StackOffer
    version: int

    def __init__(
        self,
        worker_pid: int,
        scope_id: str,
        expiration_time: float,
        signal: int = 0,
        *,
        stack: StackOffer = NO_STACK,
    ) -> None:
        fields = {
            "worker_id": worker_pid,
            "scope_id": scope_id,
            "expiration_time": expiration_time,
            "signal": int(signal),
            "stack": stack,
            "version": VERSION,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def worker_pid(self) -> int:
        """The process id."""
        return int(self.worker_id)

    def to_json(self) -> str:
        """Return the request's line in the pipe, without the end of the line."""
        fields: dict[str, Any] = {
            "version": self.version,
            "pid": self.worker_pid,
            "scope_id": self.scope_id,
            "expiration_time": self.expiration_time,
            "signal": self.signal,
        }
        if self.stack.signal:
            fields |= {"stack_signal": self.stack.signal, "stack_fd": self.stack.fd}
        return json.dumps(fields)

    @staticmethod
    def from_json(text: bytes | str) -> FileTimerRequest:
        """Return the request that a line describes.

        Raises:
            ValueError: The line is no request.
        """
        data = object_in(text)
        if data.get("version", VERSION) != VERSION:
            raise ValueError(f"version {data['version']!r} is not known here")
        scope, expiration = data.get("scope_id"), data.get("expiration_time")
        if not isinstance(scope, str):
            raise ValueError(f"scope_id {scope!r} is no text")
        # Compared, not converted: a whole number may be larger than any float.
        if not isinstance(expiration, int | float) or not abs(expiration) <= _LATEST_S:
            raise ValueError(f"expiration_time {expiration!r} is no time")
        return FileTimerRequest(
            _whole_number(data, "pid", 1, _LARGEST_PID),
            scope,
            float(expiration),
            _whole_number(data, "signal", -_LARGEST_PID, signal.NSIG - 1),
            stack=StackOffer(
                _whole_number(data, "stack_signal", 0, signal.NSIG - 1, default=0),
                _whole_number(data, "stack_fd", -1, _LARGEST_PID, default=-1),
            ),
        )


class FileTimerClient(TimerClient):
    """Writes this process's timers to a named pipe.

    Args:
        file_path: The pipe; under elrun the value of ``TORCHELASTIC_TIMER_FILE``.
        signal: The signal that ends this process; 0 or less: the server only logs the expiry.
    """

    def __init__(self, file_path: str, signal: int = signal.SIGKILL) -> None:
        self._file_path = file_path
        self._signal = int(signal)
        self._stack: StackOffer | None = None
        self._fd = -1

    def __reduce__(self) -> tuple[type[FileTimerClient], tuple[str, int]]:
        return FileTimerClient, (self._file_path, self._signal)  # another process has another stack

    def acquire(self, scope_id: str, expiration_time: float) -> None:
        """Set a timer.

        Raises:
            BrokenPipeError: No server reads the pipe.
            ValueError: The name of the scope is too long for a request.
        """
        if self._stack is None:
            self._stack = offer_stack()
        self._send_request(
            FileTimerRequest(
                os.getpid(), scope_id, expiration_time, self._signal, stack=self._stack
            )
        )

    def release(self, scope_id: str) -> None:
        """Release a timer; raises the same errors as ``acquire``."""
        self._send_request(FileTimerRequest(os.getpid(), scope_id, _RELEASED))

    def _send_request(self, request: FileTimerRequest) -> None:
        line = request.to_json().encode() + b"\n"
        if len(line) > MAX_REQUEST_BYTES:
            raise ValueError(
                f"scope {request.scope_id[:40]!r}…: a request has {MAX_REQUEST_BYTES} bytes at most"
            )
        try:
            if self._fd >= 0 and _is_written(self._fd, line):
                return
            # The pipe stays open: a clean-up of temporary files may remove its name.
            self._fd = os.open(self._file_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if _is_written(self._fd, line):
                return
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                raise
        raise BrokenPipeError(errno.EPIPE, "no timer server reads this pipe", self._file_path)


def _is_written(fd: int, line: bytes) -> bool:
    """Write a line; if no process reads the pipe, or none for 5 s, close it and return False."""
    try:
        os.write(fd, line)
    except BlockingIOError:
        room = select.poll()
        room.register(fd, select.POLLOUT)
        if room.poll(WRITE_S * 1000):
            return _is_written(fd, line)
    except BrokenPipeError:
        pass
    else:
        return True
    os.close(fd)
    return False


def _whole_number(
    data: dict[str, Any], name: str, least: int, most: int, default: int | None = None
) -> int:
    number = data.get(name, default)
    if type(number) is not int or not least <= number <= most:  # a bool is an int to isinstance
        raise ValueError(f"{name} {number!r} is no number from {least} to {most}")
    return number
