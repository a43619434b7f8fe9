"""Events as values, and as lines of JSON."""

import os

import pytest
from elrun.agent.events import (
    Event,
    EventSource,
    NodeState,
    RdzvEvent,
    close,
    construct_and_record_rdzv_event,
    record,
    record_rdzv_event,
)

EVENT = Event("test", EventSource.AGENT, 1790000000123, {"run_id": "job", "global_rank": None})
EVENT_LINE = (
    '{"name": "test", "source": "AGENT", "timestamp": 1790000000123, '
    '"metadata": {"run_id": "job", "global_rank": null}}'
)
STEP = RdzvEvent("join", "job", "it joins", "node1", 7, NodeState.INIT, timestamp=1790000000123)
STEP_LINE = (
    '{"name": "join", "run_id": "job", "message": "it joins", "hostname": "node1", "pid": 7, '
    '"node_state": "INIT", "master_endpoint": "", "rank": null, "local_id": null, '
    '"error_trace": "", "timestamp": 1790000000123}'
)


@pytest.mark.parametrize(("event", "line"), [(EVENT, EVENT_LINE), (STEP, STEP_LINE)])
def test_an_event_is_one_line_of_json(event, line):
    """The fields are torchrun's, in its order; ``str`` is the same."""
    assert line == event.serialize() == str(event)


@pytest.mark.parametrize(("event", "line"), [(EVENT, EVENT_LINE), (STEP, STEP_LINE)])
def test_an_event_can_be_read_back(event, line):
    """What is an event already stays the same."""
    assert event == type(event).deserialize(line)
    assert event is type(event).deserialize(event)


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", '{"source": "AGENT"}', EVENT_LINE.replace("AGENT", "NODE")]
)
@pytest.mark.parametrize("kind", [Event, RdzvEvent])
def test_what_is_no_event_is_a_value_error(kind, line):
    """Whatever is wrong with it."""
    with pytest.raises(ValueError):
        kind.deserialize(line)


def test_text_of_workers_can_not_break_a_line_or_act_on_a_terminal():
    """Control characters are escaped, and so is all beyond ASCII."""
    line = Event("test", EventSource.WORKER, 0, {"raw_error": "\x1b[2J\nÄ\ud800"}).serialize()

    assert line.isascii()
    assert line.isprintable()


def test_events_arrive_in_the_order_in_which_they_were_recorded(log):
    """Those of the rendezvous among the others."""
    for event in (EVENT, EVENT):
        record(event, log.name)
        record_rdzv_event(STEP, log.name)

    assert ["test", "join", "test", "join"] == [line["name"] for line in log()]


def test_null_records_nothing():
    """It is the default, and no handler is made for it."""
    record(EVENT)
    record_rdzv_event(STEP)
    construct_and_record_rdzv_event("job", "it joins", NodeState.INIT)
    close("null", 0)


def test_an_unknown_handler_is_a_value_error():
    """The ones that there are are named."""
    with pytest.raises(
        ValueError,
        match="there is no event log handler 'nope'; give null, console, file or file:PATH",
    ):
        record(EVENT, "nope")


def test_what_the_caller_of_a_step_leaves_out_is_filled_in(log):
    """The name from the function and its file, the host, the process and the time."""
    construct_and_record_rdzv_event("job", "it joins", NodeState.INIT, destination=log.name)

    (line,) = log()
    assert line.pop("timestamp") > 1_700_000_000_000
    assert {
        "name": "test_model.py:test_what_the_caller_of_a_step_leaves_out_is_filled_in",
        "run_id": "job",
        "message": "it joins",
        "hostname": os.uname().nodename,
        "pid": os.getpid(),
        "node_state": "INIT",
        "master_endpoint": "",
        "rank": None,
        "local_id": None,
        "error_trace": "",
    } == line


def test_what_the_caller_of_a_step_says_stands(log):
    """Each of the fields."""
    construct_and_record_rdzv_event(
        "job",
        "it is in",
        NodeState.RUNNING,
        name="step",
        hostname="node1",
        pid=7,
        master_endpoint="node1:29500",
        local_id=3,
        rank=2,
        destination=log.name,
    )

    (line,) = log()
    del line["timestamp"]
    assert {
        "name": "test_model.py:step",
        "run_id": "job",
        "message": "it is in",
        "hostname": "node1",
        "pid": 7,
        "node_state": "RUNNING",
        "master_endpoint": "node1:29500",
        "rank": 2,
        "local_id": 3,
        "error_trace": "",
    } == line


@pytest.mark.parametrize(("state", "has_trace"), [("FAILED", True), ("RUNNING", False)])
def test_a_failed_step_has_the_traceback(log, state, has_trace):
    """That of the exception that is being handled."""
    try:
        raise RuntimeError("no store")
    except RuntimeError:
        construct_and_record_rdzv_event("job", "", NodeState(state), destination=log.name)

    (line,) = log()
    assert has_trace is ("RuntimeError: no store" in line["error_trace"])


def test_a_failed_step_without_an_exception_has_no_traceback(log):
    """Python would say ``NoneType: None``."""
    construct_and_record_rdzv_event("job", "", NodeState.FAILED, destination=log.name)

    assert [""] == [line["error_trace"] for line in log()]
