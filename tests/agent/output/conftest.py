"""Consoles and standard errors that the output of workers goes to."""

import contextlib
import os

import pytest
from carrier_kit import PATIENCE_S
from elrun.agent.output.carrier import Carrier
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


@pytest.fixture(name="target")
def _target():
    """A pipe, as standard error: the reading and the writing end."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(name="carriers")
def _carriers(target):
    """Make carriers for so many ranks; they are closed afterwards."""
    made = []

    def make(*ranks, to=target[1], **settings):
        made.append(Carrier(ranks or (0,), target=to, **settings))
        return made[-1]

    yield make
    for each in made:
        each.drain()
        each.give_up()
        assert each.join(PATIENCE_S)
