"""Consoles that the output of workers goes to."""

import contextlib
import os

import pytest
from pump_kit import Console


@pytest.fixture(name="console")
def _console(tmp_path):
    console = Console(tmp_path)
    yield console
    for fd in console.fds:
        os.close(fd)


@pytest.fixture(name="pipe")
def _pipe():
    """A console that a test reads while it is written."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(write_end)
    with contextlib.suppress(OSError):  # a test may have closed it
        os.close(read_end)
