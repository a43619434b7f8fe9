"""What tests of every room share."""

import gc
import os
import signal
import subprocess
import threading

import hypothesis
import pytest
from elrun.rendezvous.logs import live_line
from elrun.rendezvous.network.ports import PortClaim

# An example may take long on a busy machine, or to be invented: that is no fault. The examples are
# the same in each run: a change is judged by what it changes. `make fuzz` looks for new ones.
hypothesis.settings.register_profile(
    "elrun",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("elrun")

MOST_OF_A_NAME = 200

# Jobs of tests leave no folder of a run beside those of the person who runs the tests.
os.environ.setdefault("ELRUN_RUN_DIR", os.devnull)


def pytest_addoption(parser):
    """Let a person accept what scenarios print now."""
    parser.addoption(
        "--rewrite", action="store_true", help="write what scenarios print into their files"
    )


def pytest_make_parametrize_id(val):
    """Keep megabytes out of a test's name: xdist sends it around, and prints show it."""
    if isinstance(val, str | bytes) and len(val) > MOST_OF_A_NAME:
        return f"{ascii(val[:16]).strip('b')} and {len(val):,} more"
    return None


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its hook of the same name
def pytest_collection_modifyitems(items):
    """Keep tests that share something costly in one process of xdist's, under loadgroup."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        if any(each.scope == "module" for several in fixtures for each in several):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(autouse=True)
def _garbage_is_collected():
    """A test that turns the collection off for good lets all that follow grow by gigabytes."""
    yield
    assert gc.isenabled()


@pytest.fixture(autouse=True)
def _no_line_is_unfinished(monkeypatch):
    """Workers of another test may have printed the beginning of a line: elrun would end it here."""
    monkeypatch.setattr(live_line, "is_after_part", False)


@pytest.fixture(autouse=True)
def _signals_of_a_launch_are_forgotten():
    """A launch leaves its signals in the environment, for the agents of a program of its own."""
    yield
    os.environ.pop("TORCHELASTIC_SIGNALS_TO_HANDLE", None)


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A real file system that is full after 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "elrun-test", path]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can't be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture(name="vacant_port")
def _vacant_port():
    """Return ports at which nobody listens, one by one.

    A port of the kernel's own range may be another test's by the time that it is listened at.
    """
    claims = []

    def claim():
        claims.append(PortClaim.take())
        return claims[-1].port

    yield claim
    for each in claims:
        each.release()


@pytest.fixture(name="no_threads")
def _no_threads():
    """The system grants this process no more threads: each would need a stack that nobody has."""
    threading.stack_size(1 << 46)
    yield
    threading.stack_size(0)


@pytest.fixture(name="heeded_signals")
def _heeded_signals():
    """Signals do what they do in a terminal, though `nohup` or a shell's `&` has them ignored.

    What a test starts inherits that. Only while a test needs it: `nohup make test` goes on when the
    terminal is closed.
    """
    handlers = {
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
    }
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is signal.SIG_IGN
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
