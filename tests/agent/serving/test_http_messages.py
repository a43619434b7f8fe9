"""Requests read from bytes."""

import pytest
from elrun.agent.serving.http_messages import MAX_HEAD_BYTES, Answer, Request, parse_request
from hypothesis import given
from hypothesis import strategies as st

GET = b"GET /healthz HTTP/1.1\r\nHost: node1\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GET, Request("/healthz", wants_body=True)),
        (b"HEAD /healthz HTTP/1.0\n\n", Request("/healthz", wants_body=False)),
        (b"\r\n\r\n" + GET, Request("/healthz", wants_body=True)),
        (b"GET /status?pretty=1 HTTP/1.1\r\n\r\n", Request("/status", wants_body=True)),
        (GET + b"GET /status HTTP/1.1\r\n\r\n", Request("/healthz", wants_body=True)),
    ],
)
def test_a_whole_request_is_read(data, expected):
    """The first one counts: its path without the query, and whether a body is wanted."""
    assert expected == parse_request(data)


@pytest.mark.parametrize("length", range(len(GET)))
def test_a_request_that_is_not_whole_is_waited_for(length):
    """Wherever it was cut off, nothing is said yet."""
    assert parse_request(GET[:length]) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),  # https://
        (b"GET /healthz\r\n", 400),
        (b"GET  HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES, 431),
        (b"\r\n" * MAX_HEAD_BYTES, 431),
        (b"\0" * MAX_HEAD_BYTES, 431),
    ],
)
def test_a_bad_request_is_refused(data, status):
    """Another protocol, another method, or more bytes than a question needs."""
    found = parse_request(data)

    assert isinstance(found, Answer)
    assert status == found.status


@given(st.binary(max_size=200), st.sampled_from([b"", b"GET ", b"GET / HTTP/1.1\r\n"]))
def test_no_bytes_are_too_strange(data, start):
    """Whatever comes has an answer, or is waited for while it is short."""
    parse_request(start + data)

    assert parse_request(start + data + b"\0" * MAX_HEAD_BYTES) is not None


def test_an_answer_says_how_long_it_is():
    """HEAD gets the same head as GET, without the body."""
    answer = Answer(503, "müde\n")

    head, body = answer.to_bytes()
    whole = head + body

    assert b"HTTP/1.1 503 Service Unavailable\r\n" == whole[:34]
    assert b"Content-Length: 6\r\n" in whole
    assert body == "müde\n".encode()
