"""Requests read from a pipe's bytes, and which timers expire."""

import json
import math

import pytest
from elrun.agent.system.stacks import StackOffer
from elrun.agent.timers.file_client import MAX_REQUEST_BYTES, FileTimerRequest
from elrun.agent.timers.table import MAX_TIMERS, RequestReader, TimerTable
from hypothesis import given
from hypothesis import strategies as st

TORCHS = b'{"version": 1, "pid": 7, "scope_id": "a", "expiration_time": 60.5, "signal": 9}\n'
EPOCH = 1_000_000.0


def request(pid=7, scope="a", left_s=60.0, signal=9):
    return FileTimerRequest(pid, scope, EPOCH + left_s, signal)


def table_of(*requests, now=0.0):
    table = TimerTable()
    for each in requests:
        table.take(each, 1, now, EPOCH)
    return table


def test_torch_s_own_line_is_read():
    """Byte for byte as torch 2.13 writes it."""
    assert [FileTimerRequest(7, "a", 60.5, 9)] == RequestReader().feed(TORCHS)


def test_a_request_comes_back_as_it_was_written():
    """Also one whose process offers its stack, and a scope of any letters."""
    said = FileTimerRequest(7, 'größe "\n{', 60.5, 9, stack=StackOffer(60, 5))

    assert [said] == RequestReader().feed(said.to_json().encode() + b"\n")


@given(st.lists(st.integers(1, 200), max_size=8))
def test_requests_may_come_in_any_pieces(sizes):
    """A read may end in the middle of a line."""
    data = TORCHS * 3
    reader = RequestReader()
    found = []
    for size in [*sizes, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]

    assert 3 == len(found)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"[" * 4_000,
        b"\xff\xfe",
        b"{}",
        TORCHS.replace(b'"pid": 7', b'"pid": "7"'),
        TORCHS.replace(b'"pid": 7', b'"pid": true'),
        TORCHS.replace(b'"pid": 7', b'"pid": 0'),
        TORCHS.replace(b'"pid": 7', b'"pid": -7'),
        TORCHS.replace(b'"pid": 7', b'"pid": 99999999999999999999'),
        TORCHS.replace(b'"a"', b"3"),
        TORCHS.replace(b"60.5", b"NaN"),
        TORCHS.replace(b"60.5", b"Infinity"),
        TORCHS.replace(b"60.5", b"1e999"),
        TORCHS.replace(b"60.5", b"null"),
        TORCHS.replace(b'"signal": 9', b'"signal": 65'),
        TORCHS.replace(b'"version": 1', b'"version": 2'),
        TORCHS.replace(b'"a"', b'"' + b"a" * MAX_REQUEST_BYTES + b'"'),
        b"x" * 10_000_000,
    ],
)
def test_what_is_no_request_is_skipped(line):
    """The next one is read; what was wrong is said once for each line."""
    reader = RequestReader()

    found = reader.feed(line.strip() + b"\n" + TORCHS)

    assert [FileTimerRequest(7, "a", 60.5, 9)] == found
    assert 1 == len(reader.problems)


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data):
    """Whatever is written, the server goes on, and the next whole line counts."""
    reader = RequestReader()
    reader.feed(data)
    reader.feed(b"\n")

    assert 1 == len(reader.feed(TORCHS))


@pytest.mark.parametrize("length", [1, 20, len(TORCHS) - 2])
def test_half_a_request_spoils_no_other(length):
    """A writer was killed in the middle of a line; the next one's request stands behind it."""
    reader = RequestReader()

    assert [] == reader.feed(TORCHS[:length])
    assert [FileTimerRequest(7, "a", 60.5, 9)] == reader.feed(TORCHS)
    assert 1 == len(reader.problems)


def test_a_line_without_an_end_is_not_kept():
    """However long it gets; what follows its end is read."""
    reader = RequestReader()
    problems = 0
    for _ in range(1_000):
        assert [] == reader.feed(b"x" * 65_536)
        problems += len(reader.problems)
        assert len(reader._rest) <= MAX_REQUEST_BYTES

    assert 1 == problems
    assert 1 == len(reader.feed(b"\n" + TORCHS))


def test_a_timer_expires_by_the_monotonic_clock():
    """Its time in seconds since the epoch is measured once: a wall clock may be set."""
    table = table_of(request(left_s=60), now=100)

    assert 160 == table.next_expiry
    assert [] == table.take_expired(159.9)
    (stuck,) = table.take_expired(161.5)
    assert (7, 61.5) == (stuck.pid, stuck.for_s)
    assert "was stuck in the timer scope 'a' for 62 s" == stuck.description


def test_a_timer_that_has_expired_on_arrival_counts():
    """Its process asked for no time at all, or the pipe was slow."""
    (stuck,) = table_of(request(left_s=-5)).take_expired(0)

    assert "was stuck in the timer scope 'a' for 0.0 s" == stuck.description


def test_without_timers_there_is_nothing_to_wait_for():
    """A release ends its timer; one of no timer is no fault."""
    released = FileTimerRequest(7, "a", -1)
    table = table_of(request(), released, released)

    assert math.inf == table.next_expiry


def test_a_timer_set_anew_has_the_new_time():
    """A scope that is entered again before it was left."""
    table = table_of(request(left_s=1), request(left_s=60))

    assert 60 == table.next_expiry


def test_a_stuck_process_is_told_once():
    """All its timers are forgotten with the first; other processes keep theirs."""
    table = table_of(
        request(scope="later", left_s=3),
        request(scope="first", left_s=2),
        request(scope="valid"),
        request(pid=8),
    )

    (stuck,) = table.take_expired(5)

    assert "first" == stuck.timer.request.scope_id
    assert [(8, "a")] == list(table.timers)


def test_of_expired_timers_the_first_that_asks_for_a_signal_counts():
    """A timer without a signal only takes note."""
    table = table_of(
        request(scope="note", left_s=1, signal=0),
        request(scope="second", left_s=3),
        request(scope="first", left_s=2),
    )

    (stuck,) = table.take_expired(5)

    assert "first" == stuck.timer.request.scope_id


def test_there_is_an_end_to_the_number_of_timers():
    """What is set already may be set anew and released."""
    table = TimerTable()
    taken = [
        table.take(request(scope=str(number)), 1, 0, EPOCH) for number in range(MAX_TIMERS + 1)
    ]

    assert [True] * MAX_TIMERS + [False] == taken
    assert table.take(request(scope="0"), 1, 0, EPOCH)
    assert table.take(FileTimerRequest(7, "1", -1), 1, 0, EPOCH)
    assert table.take(request(scope="new"), 1, 0, EPOCH)


def test_a_request_is_one_line_of_json():
    """Torch's server reads it, too."""
    said = json.loads(FileTimerRequest(7, "a", 60.5, 9).to_json())

    assert said == json.loads(TORCHS)
