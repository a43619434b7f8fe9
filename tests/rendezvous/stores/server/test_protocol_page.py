"""docs/protocol.md is read: each message on it is what the code writes and reads."""

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT
from elrun.rendezvous.stores.server import host, sessions, table, wire
from elrun.rendezvous.stores.server.frames import (
    MAX_COMMAS,
    MAX_FRAME_BYTES,
    content_of,
    framed,
)
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import (
    MAX_HELLO_BYTES,
    Hello,
    Opening,
    Refusal,
    open_with,
    read_answer_to_hello,
    read_first,
    read_nonce,
    write_hello,
    write_nonce,
    write_opening,
    write_refusal,
    write_welcome,
)
from elrun.rendezvous.stores.server.seal import CLIENT, SERVER, Seal
from elrun.rendezvous.stores.signed import Secret

PAGE = Path(__file__).parents[4] / "docs" / "protocol.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="a wheel is tested, no page is near")

TEXT = PAGE.read_text() if PAGE.exists() else ""
MESSAGES = [
    line
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
SEALED = re.search(r"```hex\n(.*?)```", TEXT, re.DOTALL)
ROWS = dict(re.findall(r"^\| ([a-z][^|]*?) \| (\d+) \|$", TEXT, re.MULTILINE))
LIMITS = ClientLimits()


def rewritten(message):
    """Return the frame that the code writes for a message that it has read."""
    match message:
        case {"do": _}:
            return wire.write_request(*wire.read_request(message))
        case {"hello": _}:
            hello = read_first(message)
            assert isinstance(hello, Hello)
            return write_hello(hello)
        case {"nonce": _, "run": _}:
            opening = read_first(message)
            assert isinstance(opening, Opening)
            return write_opening(opening)
        case {"nonce": _}:
            return write_nonce(read_nonce(message))
        case {"elrun": _}:
            answer = read_answer_to_hello(message)
            write = write_refusal if isinstance(answer, Refusal) else write_welcome
            return write(answer)
    answer = wire.read_answer(message)
    match message:
        case {"error": _}:
            return wire.write_error(answer.number, answer.error)
        case {"count": _}:
            return wire.write_done(answer.number, answer.amount)
        case {"values": _}:
            return b"".join(wire.write_values(answer.number, answer.values))
    return wire.write_done(answer.number)


@pytest.mark.parametrize("line", MESSAGES)
def test_each_message_of_the_page_is_what_the_code_writes(line):
    """Byte by byte, its frame included."""
    assert framed(line.encode()) == rewritten(json.loads(line))


def test_the_page_has_each_request():
    """And so many messages as it had when this test was written."""
    named = {json.loads(line).get("do") for line in MESSAGES} - {None}
    known = set(re.findall(r'case "(\w+)":', inspect.getsource(wire._request_in)))

    assert known == named
    assert len(get_args(wire.Request)) == len(named)
    assert len(MESSAGES) >= 21


def test_the_sealed_frames_of_the_page_are_what_the_code_writes():
    """The nonces are those of the page, in the block above."""
    opening, answer = (json.loads(line) for line in MESSAGES if '"nonce"' in line)
    nonces = (bytes.fromhex(opening["nonce"]), bytes.fromhex(answer["nonce"]))
    ends = [Seal(Secret(b"open sesame"), nonces, role) for role in (CLIENT, SERVER)]
    frames = [
        bytes.fromhex(head) + text.encode()
        for head, text in (line.split(" ", 1) for line in SEALED[1].splitlines())
    ]
    texts = [content_of(frame)[32:] for frame in frames]

    assert frames == [framed(end.close(text)) for end, text in zip(ends, texts, strict=True)]
    assert Hello("job", "b", "c0ffee") == read_first(json.loads(texts[0]))
    assert "a1b2" == read_answer_to_hello(json.loads(texts[1]))
    assert opening["run"] == open_with(nonces[0], "job").run


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("seconds until a hello, TLS and the secret included", LIMITS.hello_s),
        (
            "connections that have not said hello; then one makes room after half a second",
            LIMITS.strangers,
        ),
        ("connections that have", LIMITS.clients),
        ("bytes of a frame before the welcome", MAX_HELLO_BYTES),
        ("bytes of a frame", MAX_FRAME_BYTES),
        ("commas of a frame", MAX_COMMAS),
        ("bytes of a value", wire.MAX_VALUE_BYTES),
        (
            "bytes of the values of one answer; of more, an error is the answer",
            wire.MAX_ANSWER_BYTES,
        ),
        ("characters of a key", wire.MAX_KEY_CHARACTERS),
        ("keys", table.MAX_KEYS),
        ("bytes of keys and values", table.MAX_BYTES),
        ("waits of one client", LIMITS.waits),
        ("keys that all waits wait for", table.MAX_AWAITED),
        ("characters of these keys", table.MAX_AWAITED_CHARACTERS),
        ("keys of a will; then it is refused", wire._MAX_WILL_KEYS),
        ("bytes of a will", wire._MAX_WILL_BYTES),
        ("bytes of all wills; of more, a will is refused", sessions.MOST_WILL_BYTES),
        ("writes of one client that are remembered", sessions.MOST_OUTCOMES),
        (
            "bytes of the answers that are remembered for all; of more, one client's are forgotten",
            sessions.MOST_REMEMBERED_BYTES,
        ),
        (
            "seconds that a session without a connection is kept beyond `store_patience`",
            host._MARGIN_S,
        ),
        ("bytes that wait for one client", LIMITS.queued_bytes),
        ("seconds without progress of a client that has to read", LIMITS.stall_s),
        (
            "bytes that wait for all clients, or are parts of their frames; of more, the most go",
            LIMITS.held_bytes,
        ),
        ("rounds of a run", ROUNDS_KEPT),
    ],
)
def test_each_limit_of_the_page_is_that_of_the_code(row, limit):
    """Nobody has to believe a page."""
    assert limit == int(ROWS[row])


def test_the_page_has_no_other_limit():
    """Each row is tested."""
    assert 24 == len(ROWS)
