"""Metrics: who takes which, what a console shows, and what a profiled function publishes."""

import logging
import time

import pytest
from elrun.agent.metric_handlers import handlers
from elrun.agent.metrics import (
    ConsoleMetricHandler,
    MetricHandler,
    MetricsConfig,
    NullMetricHandler,
    configure,
    get_elapsed_time_ms,
    getStream,
    initialize_metrics,
    prof,
    publish_metric,
    put_metric,
)


class Memory(MetricHandler):
    """Keeps group, name and value."""

    def __init__(self):
        self.seen = []

    def emit(self, metric_data):
        self.seen.append((metric_data.group_name, metric_data.name, metric_data.value))

    @property
    def names(self):
        return [name for _, name, _ in self.seen]


@pytest.fixture(name="handler")
def _handler(monkeypatch):
    """Takes all metrics, as the only handler of this process."""
    monkeypatch.setattr(handlers, "default", None)
    monkeypatch.setattr(handlers, "by_group", {})
    handler = Memory()
    configure(handler)
    return handler


def test_a_number_goes_to_the_handler_of_its_group(handler):
    """A group that has none shares the common one."""
    own = Memory()
    configure(own, "mine")
    put_metric("loss", 3, "mine")
    put_metric("loss", 4, "yours")

    assert [("mine", "loss", 3)] == own.seen
    assert [("yours", "loss", 4)] == handler.seen


def test_a_number_has_the_agents_group_unless_it_is_told(handler):
    """That is torchrun's name for it."""
    put_metric("agent.rounds", 1)

    assert [("torchelastic", "agent.rounds", 1)] == handler.seen


def test_the_older_name_has_the_group_first(handler):
    """``publish_metric`` is what old programs call."""
    publish_metric("mine", "loss", 3)

    assert [("mine", "loss", 3)] == handler.seen


def test_a_number_has_its_time(handler, monkeypatch):
    """In seconds since the epoch."""
    seen = []
    monkeypatch.setattr(handler, "emit", seen.append)
    before = time.time()
    put_metric("loss", 3)

    assert before <= seen[0].timestamp <= time.time()


def test_without_a_handler_numbers_go_nowhere(monkeypatch, capsys):
    """Nothing is kept, nothing is shown."""
    monkeypatch.setattr(handlers, "default", None)
    monkeypatch.setattr(handlers, "by_group", {})
    put_metric("loss", 3)

    assert isinstance(getStream("any").handler, NullMetricHandler)
    assert ("", "") == tuple(capsys.readouterr())


def test_the_console_shows_a_line_for_each_number(handler, capsys, monkeypatch):
    """On standard error: standard output is the workers'."""
    monkeypatch.setattr(time, "time", lambda: 1790000000.5)
    configure(ConsoleMetricHandler(), "mine")
    put_metric("loss", 3, "mine")

    assert ("", "[1790000000.5][mine]: loss=3\n") == tuple(capsys.readouterr())


def test_a_stream_keeps_its_handler(handler):
    """It may be taken out of a loop."""
    stream = getStream("mine")
    configure(Memory(), "mine")
    stream.add_value("loss", 3)

    assert [("mine", "loss", 3)] == handler.seen


def test_a_handler_that_raises_raises_in_the_program_that_publishes(handler, monkeypatch):
    """It is the program's own; an agent protects itself."""

    def fail(_data):
        raise RuntimeError("no network")

    monkeypatch.setattr(handler, "emit", fail)

    with pytest.raises(RuntimeError, match="no network"):
        put_metric("loss", 3)


@prof
def work(value):
    """Say what it is given."""
    return value


@prof(group="data")
def fail():
    """Fail."""
    raise KeyError("k")


class Loader:
    @prof
    def load(self, value, *, extra=0):
        return value + extra


def test_a_profiled_function_publishes_success_and_duration(handler):
    """Under its module's name; it stays what it was otherwise."""
    assert 5 == work(5)

    assert ("torchelastic", "test_metrics.work.success", 1) == handler.seen[0]
    assert "test_metrics.work.duration.ms" == handler.seen[1][1]
    assert isinstance(handler.seen[1][2], int)
    assert ("work", "Say what it is given.") == (work.__name__, work.__doc__)


def test_a_profiled_function_that_fails_publishes_failure(handler):
    """The exception goes on to the caller."""
    with pytest.raises(KeyError):
        fail()

    assert ["test_metrics.fail.failure", "test_metrics.fail.duration.ms"] == handler.names
    assert {"data"} == {group for group, _, _ in handler.seen}


def test_a_profiled_method_has_its_classs_name(handler):
    """And all its arguments."""
    assert 7 == Loader().load(3, extra=4)

    assert ["Loader.load.success", "Loader.load.duration.ms"] == handler.names


def test_a_config_names_handlers_by_group(handler):
    """The empty group is all others."""
    initialize_metrics(MetricsConfig({"": "null", "mine": "console"}))

    assert isinstance(getStream("mine").handler, ConsoleMetricHandler)
    assert isinstance(getStream("yours").handler, NullMetricHandler)


@pytest.mark.parametrize("config", [None, MetricsConfig(), MetricsConfig({})])
def test_a_config_without_names_changes_nothing(handler, config):
    """What a program has configured stands."""
    initialize_metrics(config)

    assert handler is getStream("any").handler


def test_an_unknown_handler_in_a_config_is_a_warning(handler, caplog):
    """torchrun ignores these settings altogether: no job may fail by them."""
    initialize_metrics(MetricsConfig({"mine": "consol"}))

    assert handler is getStream("mine").handler
    known = "give null or console"
    assert [f"metrics_cfg: there is no metric handler 'consol' for the group 'mine'; {known}"] == [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_elapsed_time_is_in_milliseconds(monkeypatch):
    """Whole ones, from ``time.time()``."""
    monkeypatch.setattr(time, "time", lambda: 12.3456)

    assert 2345 == get_elapsed_time_ms(10.0)
