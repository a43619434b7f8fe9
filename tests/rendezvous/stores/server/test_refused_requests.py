"""Requests that a store server refuses: each by its number, and the connection goes on."""

import math

import pytest
from elrun.rendezvous.errors import RendezvousRefusalError
from elrun.rendezvous.stores.loop import Loop
from elrun.rendezvous.stores.server.frames import MAX_FRAME_BYTES, FrameReader, framed, write_frame
from elrun.rendezvous.stores.server.wire import (
    MAX_AMOUNT,
    MAX_KEY_CHARACTERS,
    MAX_VALUE_BYTES,
    read_answer,
    write_values,
)
from elrun.rendezvous.stores.store import Will, read_by
from server_kit import LONG_S, is_closed

LONGEST = "k" * MAX_KEY_CHARACTERS
LARGEST = bytes(MAX_VALUE_BYTES)


@pytest.fixture(name="loop")
def _loop():
    loop = Loop()
    loop.enter()
    yield loop
    loop.close()


def answers_to(connection, data, count):
    """Send bytes, and return so many answers."""
    connection.settimeout(LONG_S)
    connection.sendall(data)
    reader, answers = FrameReader(MAX_FRAME_BYTES), []
    while len(answers) < count:
        more = connection.recv(1 << 16)
        assert more, "the connection was ended"
        answers += reader.feed(more)
    return answers


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.add(LONGEST, 1),
        lambda client: client.add("k", MAX_AMOUNT),
        lambda client: client.add("k", -MAX_AMOUNT),
        lambda client: client.set({LONGEST: LARGEST}),
        lambda client: client.create(LONGEST, LARGEST),
        lambda client: client.create("k", b"v", LARGEST),
        lambda client: client.get([LONGEST]),
        lambda client: client.wait([LONGEST], 0),
        lambda client: client.set({"\U0001f600" * 8000 + str(n): b"" for n in range(600)}),
        lambda client: client.get(["\U0001f600" * 8000 + str(n) for n in range(600)]),
        lambda client: client.get(["\0", "\ud800", ",", '"']),
    ],
    ids=range(11),
)
def test_a_request_at_its_limit_is_carried_out(server, ask):
    client = server.client()
    ask(client)
    client.close()


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda client: client.add(LONGEST + "k", 1), "a key is a string of at most 8192"),
        (lambda client: client.add("", 1), "a key is a string of at most 8192"),
        (lambda client: client.add("k", MAX_AMOUNT + 1), "amount is no number from"),
        (lambda client: client.add("k", -MAX_AMOUNT - 1), "amount is no number from"),
        (lambda client: client.add("k", 10**4000), "amount is no number from"),
        (lambda client: client.add("k", 1.0), "amount is no number from"),
        (lambda client: client.add("k", math.nan), "amount is no number from"),
        (lambda client: client.add("k", True), "amount is no number from"),
        (lambda client: client.set({"fine": b"1", LONGEST + "k": b""}), "a key is a string"),
        (lambda client: client.create("k", LARGEST + b"1"), "a value of 8388609 bytes"),
        (lambda client: client.create("k", b"v", LARGEST + b"1"), "a value of 8388609 bytes"),
        (lambda client: client.get([LONGEST + "k"]), "a key is a string of at most 8192"),
        (lambda client: client.wait([LONGEST + "k"], LONG_S), "a key is a string of at most 8192"),
        (lambda client: client.get(["k" * (4 << 20)]), "a key is a string of at most 8192"),
    ],
)
def test_a_request_beyond_its_limit_is_refused_and_the_client_goes_on(server, ask, sentence):
    """At once, with a sentence: it isn't repeated over one connection after the other."""
    client = server.client()
    told = client.watch(["later"], print)
    with pytest.raises(RendezvousRefusalError, match=sentence):
        ask(client)

    assert (1, [None]) == (client.add("n", 1), client.get(["fine"]))
    assert told()
    client.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.set({"k": LARGEST + b"1"}),
        lambda client: client.create("k", LARGEST, LARGEST),
        lambda client: client.create("k", bytes(1 << 24)),
        lambda client: client.wait(["\U0001f600" * 8000 + str(n) for n in range(200)], 0),
        lambda client: client.get(["k" * (1 << 24)]),
    ],
    ids=["value", "two values", "far too large", "keys", "key"],
)
def test_a_request_that_no_frame_holds_is_not_sent(server, ask):
    client = server.client()
    with pytest.raises(ValueError, match="larger than the store takes|are allowed"):
        ask(client)

    assert 1 == client.add("n", 1)
    client.close()


@pytest.mark.parametrize("keys", [64, 65, 131072])
def test_a_will_with_too_many_keys_is_refused_and_its_client_goes_on(server, keys):
    client = server.client()
    will = {"id": 1, "do": "will", "after_ms": 0, "create": {}, "unless": []}
    values = {f"k{number}": "MQ==" for number in range(keys)}
    with server.welcomed() as connection:
        data = write_frame({**will, "values": values}) + write_frame(
            {"id": 2, "do": "get", "keys": []}
        )
        refused = answers_to(connection, data, 1 if keys == 64 else 2)[:-1]
    left = client.wait(["k1"], LONG_S if keys == 64 else 0)
    client.close()

    assert (keys > 64) == bool(refused)
    assert (keys == 64) == (left is not None)


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":1,"do":"pop"}',
        b'{"id":1}',
        b'{"id":1,"do":' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"id":1,"do":"add","key":7,"amount":1}',
        b'{"id":1,"do":"add","key":"k","amount":1e999}',
        b'{"id":1,"do":"add","key":"k","amount":-0.0}',
        b'{"id":1,"do":"add","key":"k","amount":' + b"9" * 4000 + b"}",
        b'{"id":1,"do":"get","keys":["k","k"]}',
        b'{"id":1,"do":"get","keys":null}',
        b'{"id":1,"do":"set","values":{"k":"M"}}',
        b'{"id":1,"do":"set","values":{"":"MQ=="}}',
        b'{"id":1,"do":"create","key":"k","value":"MQ=="}',
        b'{"id":1,"do":"will","after_ms":60001,"values":{},"create":{},"unless":[]}',
        b'{"id":1,"do":"will","after_ms":NaN,"values":{},"create":{},"unless":[]}',
        b'{"id":1,"do":"forget","wait":-1}',
    ],
    ids=lambda text: str(text[:50]),
)
def test_what_is_no_request_is_refused_by_its_number(server, text):
    """A client without elrun's checks sends it; what comes after it is carried out."""
    with server.welcomed() as connection:
        data = framed(text) + write_frame({"id": 2, "do": "add", "key": "n", "amount": 1})
        refused, counted = answers_to(connection, data * 2, 4)[:2]

    assert (1, {"id": 2, "count": 1}) == (refused["id"], counted)
    assert len(read_answer(refused).error) < 200


@pytest.mark.parametrize("number", [b"-1", b"9007199254740993", b"1.0", b"true", b'"1"', b"1e3"])
def test_a_request_without_a_number_ends_its_connection(server, number):
    """No answer could be told apart."""
    with server.welcomed() as connection:
        connection.sendall(framed(b'{"id":' + number + b',"do":"bye"}'))
        connection.settimeout(LONG_S)
        assert is_closed(connection)


@pytest.mark.parametrize("last", [MAX_VALUE_BYTES - 1, MAX_VALUE_BYTES])
@pytest.mark.parametrize("first", [1, MAX_VALUE_BYTES // 2 - 1, MAX_VALUE_BYTES // 2])
def test_each_part_of_an_answer_fits_into_a_frame(first, last):
    """A large value that comes after others begins a part of its own."""
    values = [bytes(first), bytes(last), None, bytes(first), bytes(last)]
    frames = list(write_values(1, values).frames)
    answers = [read_answer(*FrameReader(MAX_FRAME_BYTES).feed(frame)) for frame in frames]

    assert values == [value for answer in answers for value in answer.values]
    assert [True] * (len(answers) - 1) + [False] == [answer.has_more for answer in answers]


def test_a_large_value_behind_others_is_read(server):
    client = server.client()
    values = {"a": bytes((4 << 20) - 1), "b": LARGEST, "c": b"1"}
    client.set(values)

    assert list(values.values()) == client.get(list(values)) == client.wait(list(values), LONG_S)
    client.close()


@pytest.mark.parametrize("timeout_s", [0, -1, -math.inf, math.nan])
@pytest.mark.parametrize("own_thread", [False, True])
def test_a_wait_without_time_ends_at_once(server, loop, timeout_s, own_thread):
    """Whoever reads the answers: NaN is no time either."""
    client = server.client()
    read_by(client, None if own_thread else loop)

    assert client.wait(["never"], timeout_s) is None
    client.close()


def test_a_will_of_ours_is_taken(server):
    client, other = server.client(), server.client()
    client.leave_will(Will({"gone": b"1"}, {}, ()))
    client.add("n", 1)
    client._line._reader.link.shut_down()

    assert [b"1"] == other.wait(["gone"], LONG_S)
    other.close()
    client.close()
