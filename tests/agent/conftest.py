"""What several tests of the agent need."""

import json
import signal

import pytest
from elrun.agent.events import close


@pytest.fixture(name="log")
def _log(tmp_path):
    """Return the events that were recorded under the name ``log.name``, as JSON values."""

    def read():
        close(read.name, 30)
        return [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]

    read.name = f"file:{tmp_path / 'events'}"
    yield read
    close(read.name, 30)


@pytest.fixture(name="contexts")
def _contexts():
    """Worker processes of a test, which are ended with it."""
    contexts = []
    yield contexts
    for context in contexts:
        context.close(signal.SIGKILL)
