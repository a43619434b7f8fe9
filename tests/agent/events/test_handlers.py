"""Event log handlers by name: elrun's own, and plug-ins that are installed for real."""

import json
import logging
import os
import subprocess
import sys

import pytest
from elrun.agent.events.file import EventFile
from elrun.agent.events.handlers import (
    Recorders,
    get_logging_handler,
    is_known,
    known_handlers,
)
from plugin_kit import install_plugins


@pytest.fixture(name="plugins")
def _plugins(tmp_path, monkeypatch):
    """The module of the plug-ins, which are installed."""
    install_plugins(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: sys.modules["event_plugins"]
    sys.modules.pop("event_plugins", None)


@pytest.fixture(name="recorders")
def _recorders():
    return Recorders()


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_null_drops_all():
    """It is what one gets who names none."""
    assert isinstance(get_logging_handler(), logging.NullHandler)
    assert isinstance(get_logging_handler("null"), logging.NullHandler)


def test_the_console_is_standard_error(capsys, recorders):
    """A line for each event, as it is; standard output is the workers'."""
    recorders.get("console").take('{"name": "100 %s"}')
    recorders.close("console", 30)

    assert ("", '{"name": "100 %s"}\n') == tuple(capsys.readouterr())


@pytest.mark.parametrize("name", ["file", "file:"])
def test_a_file_without_a_path_stands_in_the_working_directory(tmp_path, monkeypatch, name):
    """Its name tells host and process: a directory may be shared by nodes."""
    monkeypatch.chdir(tmp_path)
    handler = get_logging_handler(name)

    expected = tmp_path / f"events_{os.uname().nodename}_{os.getpid()}.jsonl"
    assert (EventFile, str(expected)) == (type(handler), handler.path)


def test_a_file_may_have_a_path(tmp_path):
    """All that follows the colon."""
    assert str(tmp_path / "a:b") == get_logging_handler(f"file:{tmp_path}/a:b").path


def test_an_installed_plug_in_takes_events(plugins, recorders):
    """It is flushed and closed at the end, as the process may end at once after that."""
    recorders.get("memory").take("first")
    recorders.get("memory").take("second")
    recorders.close("memory", 30)

    assert ["first", "second", "flush", "close"] == plugins().Memory.seen


def test_the_installed_plug_ins_are_known(plugins):
    """After elrun's own, and without being loaded."""
    assert [
        *("null", "console", "file"),
        *("blocking", "broken", "fails", "filtering", "memory", "missing", "no_handler"),
        *("raising", "rewriting", "warnings"),
    ] == known_handlers()
    assert is_known("memory")
    assert not is_known("memori")
    assert "event_plugins" not in sys.modules


def test_a_plug_in_may_want_less(plugins, recorders):
    """Events have the level INFO; a handler's own level counts."""
    recorders.get("warnings").take("an event")
    recorders.close("warnings", 30)

    assert ["flush", "close"] == plugins().Memory.seen


def test_a_plug_in_may_filter(plugins, recorders):
    """As the standard library lets it."""
    for event in ("keep this", "not this"):
        recorders.get("filtering").take(event)
    recorders.close("filtering", 30)

    assert ["keep this", "flush", "close"] == plugins().Memory.seen


def test_a_filter_may_return_another_record(plugins, recorders):
    """As it may from Python 3.12 on."""
    recorders.get("rewriting").take("written")
    recorders.close("rewriting", 30)

    assert ["rewritten", "flush", "close"] == plugins().Memory.seen


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fails", "'fails' (event_plugins:fails) can't be loaded: OSError('no such service')"),
        (
            "missing",
            (
                "'missing' (event_plugins:Missing) can't be loaded: AttributeError(\"module "
                "'event_plugins' has no attribute 'Missing'\")"
            ),
        ),
        (
            "no_handler",
            "'no_handler' (event_plugins:no_handler) is 'handler': no logging.Handler",
        ),
    ],
)
def test_a_plug_in_that_can_not_be_used_is_refused(plugins, recorders, name, sentence):
    """Before the job starts, with its place."""
    with pytest.raises(ValueError) as refused:
        recorders.get(name)

    assert f"the event log handler {sentence}" == str(refused.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("raising", "RuntimeError: no network"),
        ("broken", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_handler_that_fails_is_one_warning(plugins, recorders, capsys, caplog, name, error):
    """Also one that follows the standard library, which prints a traceback at each record."""
    for _ in range(3):
        recorders.get(name).take("event")
    recorders.close(name, 30)

    assert [f"the event log handler {name!r} failed: {error}; events are lost"] == warnings_in(
        caplog
    )
    assert "" == capsys.readouterr().err


def test_a_closed_handler_is_made_anew(plugins, recorders):
    """A program may launch a second job."""
    for event in ("first", "second"):
        recorders.get("memory").take(event)
        recorders.close("memory", 30)

    assert ["first", "flush", "close", "second", "flush", "close"] == plugins().Memory.seen


def test_a_recorder_is_made_once(plugins, recorders):
    """A file that two would write could be rotated twice."""
    assert recorders.get("memory") is recorders.get("memory")


@pytest.mark.integration
def test_a_forked_process_has_a_recorder_of_its_own(tmp_path):
    """The thread that hands events on stays behind in the parent."""
    name = f"file:{tmp_path}/events"
    program = (
        "import os\n"
        "from elrun.agent.events import Event, EventSource, record\n"
        f"record(Event('parent', EventSource.AGENT), {name!r})\n"
        "child = os.fork()\n"
        f"record(Event('both', EventSource.WORKER), {name!r})\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)

    lines = (tmp_path / "events").read_text().splitlines()
    assert ["both", "both", "parent"] == sorted(json.loads(line)["name"] for line in lines)
