"""What several tests of the agent need."""

import json
import signal

import pytest
from elrun.agent.events import close
from worker_kit import Ear, start_shells


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


@pytest.fixture(name="shells")
def _shells(contexts):
    """Start workers that are shell scripts."""

    def start(*scripts, **options):
        contexts.append(start_shells(*scripts, **options))
        return contexts[-1]

    return start


@pytest.fixture(name="ear")
def _ear(tmp_path):
    """A pipe into which processes tell who they are."""
    return Ear(tmp_path)
