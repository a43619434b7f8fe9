"""What Prometheus gets of a job, as the job's end and its errors meet it."""

import socket
import threading

import pytest

pytest.importorskip("prometheus_client")

from elrun.launcher import exporting
from elrun.launcher.exporting import _kept_in_file, _served


class SlowMetrics:
    """In the thread that writes now and then, it takes until the job's end to put them together."""

    def __init__(self):
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.state = b"runs"

    def prometheus_text(self):
        text = self.state
        if threading.current_thread().name == "elrun-metrics":
            self.has_begun.set()
            assert self.may_end.wait(30)
        return text


class File:
    """Keeps all versions."""

    def __init__(self, *_names):
        self.versions = []

    def write(self, text, **_more):
        self.versions.append(text)

    write_first = write

    def settle(self):
        pass


def test_no_older_numbers_follow_the_last_ones(monkeypatch):
    """Those that were being put together when the job ended are late."""
    metrics, file = SlowMetrics(), File()
    monkeypatch.setattr(exporting, "PAUSE_S", 0.001)
    monkeypatch.setattr(exporting, "WholeFile", lambda *_names: file)

    with _kept_in_file("m.prom", metrics):
        assert metrics.has_begun.wait(30)
        (thread,) = (each for each in threading.enumerate() if each.name == "elrun-metrics")
        metrics.state = b"has ended"
    metrics.may_end.set()
    thread.join(30)

    assert [b"runs", b"has ended"] == file.versions


def test_a_port_in_use_is_no_context_of_the_job_s_errors():
    """A traceback would name it as what was being handled."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(ValueError, match="of the job") as raised, _served(address, None):
            raise ValueError("of the job")

    assert raised.value.__context__ is None
