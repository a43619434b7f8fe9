"""``elrun -``: the script stands on standard input, and each worker reads all of it.

A pipe can be read but once, so the workers of torchrun share what it holds: one of them runs the
script, the others find it empty. Here it is read into a file without a name, which takes the place
of standard input, and which each worker of each attempt opens for itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ...agent.processes.executor import SCRIPT_ON_INPUT
from ...agent.system.whole_writes import write_all
from ..commandline.arguments import Refusal
from ..terminal.console import Console

_STANDARD_INPUT = 0
_MAX_BYTES = 64 << 20
_CHUNK = 1 << 20


@contextlib.contextmanager
def script_for_each_worker(console: Console) -> Iterator[None]:
    """Read the script, and let each worker find it on its standard input.

    Args:
        console: Where a person is told that elrun waits for what they type.

    Raises:
        Refusal: Standard input is closed, or holds more than any script.
    """
    try:
        before = os.dup(_STANDARD_INPUT)  # first: where it is closed, the file would take its place
    except OSError as error:
        raise Refusal("-: standard input is closed; give a script there, or its path") from error
    if os.isatty(before):
        console.say("the script is read from this terminal; end it with Ctrl-D")
    file = os.memfd_create(SCRIPT_ON_INPUT)
    try:
        _read_into(file)
        os.dup2(file, _STANDARD_INPUT)
        yield
    finally:
        os.close(file)
        os.dup2(before, _STANDARD_INPUT)
        os.close(before)


def _read_into(file: int) -> None:
    size = 0
    try:
        while data := os.read(_STANDARD_INPUT, _CHUNK):
            size += len(data)
            if size > _MAX_BYTES:
                raise Refusal(f"-: standard input holds more than {_MAX_BYTES:,} bytes of script")
            write_all(file, data)
    except OSError as error:
        raise Refusal(f"-: standard input can't be read: {error.strerror}") from error
