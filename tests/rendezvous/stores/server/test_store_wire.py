"""What the store server and its clients send each other, from literal bytes."""

import base64
import json
import random

import pytest
from elrun.rendezvous.stores.server.frames import (
    MAX_FRAME_BYTES,
    FrameReader,
    RequestError,
    WireError,
    object_in,
    write_frame,
)
from elrun.rendezvous.stores.server.hello import (
    Hello,
    Refusal,
    name_of_run,
    read_answer_to_hello,
    read_first,
    write_hello,
    write_refusal,
    write_welcome,
)
from elrun.rendezvous.stores.server.wire import (
    MAX_VALUE_BYTES,
    Add,
    Answer,
    Bye,
    Create,
    Forget,
    Get,
    LeaveWill,
    Set,
    Wait,
    read_answer,
    read_request,
    write_done,
    write_error,
    write_request,
    write_values,
)
from elrun.rendezvous.stores.store import Will

REQUESTS = {
    b'{"id":1,"do":"add","key":"run/j/seats","amount":1000}': (
        1,
        Add("run/j/seats", 1000),
    ),
    b'{"id":2,"do":"set","values":{"a":"MQD/Cg=="}}': (2, Set({"a": b"1\0\xff\n"})),
    b'{"id":2,"do":"set","values":{"a":"MQ=="},"keys":["b"]}': (2, Set({"a": b"1"}, ("b",))),
    b'{"id":3,"do":"get","keys":["a","\\u00e9"]}': (3, Get(("a", "é"))),
    b'{"id":4,"do":"create","key":"c","value":"Mg==","instead_of":""}': (
        4,
        Create("c", b"2", b""),
    ),
    b'{"id":5,"do":"wait","keys":["d"]}': (5, Wait(("d",))),
    b'{"id":6,"do":"forget","wait":5}': (6, Forget(5)),
    b'{"id":7,"do":"will","after_ms":150,"values":{"a":"MQ=="},"create":{"c":"Mg=="},'
    b'"unless":["d"]}': (7, LeaveWill(Will({"a": b"1"}, {"c": b"2"}, ("d",)), 150)),
    b'{"id":8,"do":"bye"}': (8, Bye()),
}


def objects_in(data, limit=MAX_FRAME_BYTES):
    return list(FrameReader(limit).feed(data))


def frames(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.mark.parametrize("data", REQUESTS)
def test_a_request_is_these_bytes(data):
    """The format is a promise to nodes of the same version."""
    assert frames(data) == write_request(*REQUESTS[data])
    assert REQUESTS[data] == read_request(json.loads(data))


@pytest.mark.parametrize(
    ("text", "hello"),
    [
        (b'{"elrun":3,"hello":{"run":"job","host":"b"}}', Hello("job", "b")),
        (
            b'{"elrun":3,"hello":{"run":"job","host":"b","session":"c0","resumes":true}}',
            Hello("job", "b", "c0", resumes=True),
        ),
        (
            b'{"elrun":3,"hello":{"run":"job","host":"b","node_rank":1,"nodes":2,"server":"a1"}}',
            Hello("job", "b", node_rank=1, nodes=2, server="a1"),
        ),
    ],
)
def test_a_hello_is_these_bytes(text, hello):
    """It says which version the client speaks, whose node it is, and where it has been before."""
    assert frames(text) == write_hello(hello)
    assert hello == read_first(json.loads(text))


def test_another_version_is_told_apart():
    """Whatever else it says: no later version can be understood."""
    assert 4 == read_first({"elrun": 4, "bonjour": []})


@pytest.mark.parametrize(
    ("written", "text", "read"),
    [
        (write_welcome("a1"), b'{"elrun":3,"welcome":"a1"}', "a1"),
        (
            write_refusal(Refusal("rank", "no")),
            b'{"elrun":3,"refused":"rank","reason":"no"}',
            Refusal("rank", "no"),
        ),
    ],
)
def test_a_hello_is_answered_by_these_bytes(written, text, read):
    """A welcome or a refusal, once."""
    assert frames(text) == written
    assert read == read_answer_to_hello(json.loads(text))


@pytest.mark.parametrize(
    ("written", "text", "read"),
    [
        (write_done(1, -5), b'{"id":1,"count":-5}', Answer(1, amount=-5)),
        (write_done(2), b'{"id":2}', Answer(2)),
        (
            b"".join(write_values(3, [b"1", None])),
            b'{"id":3,"values":["MQ==",null]}',
            Answer(3, (b"1", None)),
        ),
        (write_error(4, "full"), b'{"id":4,"error":"full"}', Answer(4, error="full")),
        (
            write_error(4, "round 3 is over", is_over=True),
            b'{"id":4,"error":"round 3 is over","over":true}',
            Answer(4, error="round 3 is over", is_over=True),
        ),
    ],
)
def test_an_answer_is_these_bytes(written, text, read):
    """Each bears its request's number."""
    assert frames(text) == written
    assert read == read_answer(json.loads(text))


def test_many_values_come_in_several_answers():
    """None of which is longer than a frame may be; together they are all."""
    values = [b"x" * (MAX_VALUE_BYTES // 8)] * 6 + [None]
    parts = [read_answer(objects_in(frame)[0]) for frame in write_values(7, values).frames]

    assert [True] * (len(parts) - 1) + [False] == [part.has_more for part in parts]
    assert values == [value for part in parts for value in part.values]
    assert 1 < len(parts)


@pytest.mark.parametrize("count", [16, 17, 1200])
def test_an_answer_that_would_be_too_long_is_an_error(count):
    """Nothing of the answer is encoded; the values may be read in several requests."""
    answer = write_values(7, [bytes(MAX_VALUE_BYTES)] * count)
    frames_of_answer = answer.frames if count == 16 else iter(answer)
    first = read_answer(objects_in(next(frames_of_answer))[0])

    assert (count > 16) == bool(first.error)
    assert (count == 16) == first.has_more
    assert 7 == first.number


def test_a_frame_begins_with_its_length():
    """Four bytes, the most significant first."""
    assert b'\0\0\1\7{"a":"' + b"x" * 255 + b'"}' == write_frame({"a": "x" * 255})


def test_frames_come_in_any_pieces():
    """TCP keeps no borders."""
    data = frames(b'{"a":1}', b"{}", b'{"b":[2]}')
    reader = FrameReader(100)
    found = [message for at in range(len(data)) for message in reader.feed(data[at : at + 1])]

    assert [{"a": 1}, {}, {"b": [2]}] == found == objects_in(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        frames(b"[]"),
        frames(b"{"),
        frames(b"\xff\xfe"),
        frames(b"[" * 90_000),
        frames(b""),
        b"\0\1\0\1",
    ],
    ids=str,
)
def test_what_is_no_frame_is_refused(data):
    """As early as that shows: a length that is too long is not waited for."""
    with pytest.raises(WireError):
        objects_in(data, 1 << 16 if data != frames(b"[" * 90_000) else MAX_FRAME_BYTES)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"id": 1},
        {"id": 1, "do": "drop"},
        {"id": 1, "do": ["add"]},
        {"id": True, "do": "forget", "wait": 1},
        {"id": -1, "do": "forget", "wait": 1},
        {"id": 1, "do": "add", "key": "k", "amount": 1.5},
        {"id": 1, "do": "add", "key": "k", "amount": 1 << 60},
        {"id": 1, "do": "add", "key": "", "amount": 1},
        {"id": 1, "do": "add", "key": "k" * 9000, "amount": 1},
        {"id": 1, "do": "set", "values": [["k", "MQ=="]]},
        {"id": 1, "do": "set", "values": {"k": 1}},
        {"id": 1, "do": "set", "values": {"k": "M"}},
        {"id": 1, "do": "set", "values": {"k": "M\u00e9=="}},
        {"id": 1, "do": "set", "values": {"k": "MQ=\n="}},
        {"id": 1, "do": "get", "keys": "k"},
        {"id": 1, "do": "get", "keys": [None]},
        {"id": 1, "do": "get", "keys": [["k"]]},
        {"id": 1, "do": "get", "keys": ["big"] * 1200},
        {"id": 1, "do": "wait", "keys": ["a", "b", "a"]},
        {"id": 1, "do": "will", "after_ms": 1, "values": {}, "create": {}, "unless": ["k", "k"]},
        {"id": 1, "do": "create", "key": "k", "value": "MQ=="},
        {"id": 1, "do": "wait", "keys": {"k": 1}},
        {"id": 1, "do": "will", "values": {}, "create": {}, "unless": []},
        {"id": 1, "do": "will", "after_ms": -1, "values": {}, "create": {}, "unless": []},
        {"id": 1, "do": "will", "after_ms": 1, "values": {}, "create": {}, "unless": ["k"] * 65},
        {
            "id": 1,
            "do": "set",
            "values": {"k": base64.b64encode(bytes(MAX_VALUE_BYTES + 1)).decode()},
        },
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_is_no_request_is_refused(message):
    """By an error, never by another one."""
    with pytest.raises(WireError):
        read_request(message)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"elrun": "1"},
        {"elrun": 3},
        {"elrun": 3, "hello": "b"},
        {"elrun": 3, "hello": {"run": "r" * 2000, "host": "h"}},
        {"elrun": 3, "hello": {"run": "r", "host": "h", "session": 7}},
        {"elrun": 3, "hello": {"run": "r", "host": "h", "node_rank": -1, "nodes": 2}},
        {"elrun": 3, "hello": {"run": "r", "host": "h\0", "node_rank": 0, "nodes": 2}},
        {"elrun": 3, "hello": {"run": "r", "host": "\x1b[2J", "node_rank": 0, "nodes": 2}},
        {"elrun": 3, "hello": {"run": "r", "host": "\ud800", "node_rank": 0, "nodes": 2}},
        {"elrun": 3, "hello": {"run": "r", "host": "h" * 2000, "node_rank": 0, "nodes": 2}},
        {"elrun": 3, "hello": {"run": "r", "host": "h", "node_rank": 0, "nodes": 2, "server": 1}},
    ],
    ids=str,
)
def test_what_is_no_hello_is_refused(message):
    """Nobody is let in by half."""
    with pytest.raises(WireError):
        read_first(message)


def test_no_bytes_do_more_than_be_refused():
    """Changed at random, a request is another one, or none."""
    chance = random.Random(7)
    for _ in range(2000):
        data = bytearray(frames(chance.choice(list(REQUESTS))))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            for message in objects_in(bytes(data), 1 << 10):
                read_request(message)
        except WireError:
            continue


def test_a_frame_holds_a_value_of_the_largest_size():
    """As base64."""
    assert MAX_FRAME_BYTES > len(write_request(1, Set({"k" * 8000: bytes(MAX_VALUE_BYTES)})))


def test_no_text_is_lost():
    """Names of jobs may be anything."""
    hello = Hello("jöb/\0\u2028", "h")

    assert hello == read_first(objects_in(write_hello(hello))[0])
    assert [{"a": "\ud800"}] == objects_in(write_frame({"a": "\ud800"}))


def test_a_very_long_name_of_a_run_is_cut_and_still_its_own():
    """A hello has a limit, and two long names may begin in the same way."""
    names = [name_of_run("j" * 600 + end) for end in ("a", "b")]

    assert names[0] != names[1]
    assert [True, True] == [
        isinstance(read_first(objects_in(write_hello(Hello(name, "h")))[0]), Hello)
        for name in names
    ]
    assert "job" == name_of_run("job")


@pytest.mark.parametrize(
    "number",
    ["1" * 4000, "-" + "1" * 4000, "9" * 5000, "1." + "0" * 5000, "1e5", str(2**63 + 1), "1" * 21],
    ids=len,
)
def test_a_number_of_very_many_digits_is_no_number(number):
    """Nobody reads it digit by digit: a frame of them would take half a second."""
    text = b'{"id":1,"do":"add","key":"n","amount":%s,"count":%s}' % ((number.encode(),) * 2)
    message = object_in(text)

    assert len(str(message["amount"])) <= 21
    with pytest.raises(RequestError, match="amount is no number from"):
        read_request(message)
    with pytest.raises(WireError, match="count is no number from"):
        read_answer(message)
