"""What workers print: the first byte says in which pieces it comes, the second how much is held."""

import json

from elrun.agent.output.carrying import KeptOutput, Lines
from elrun.agent.output.lines import LineCutter, LongLine, matching, prefixed
from elrun.launcher.terminal.console import printable
from elrun.launcher.terminal.json_lines import JsonLines
from elrun.launcher.verbs.log_lines import Lines as ReadLines
from elrun.launcher.verbs.merging import in_order_of_time


def attempt(data: bytes) -> None:
    """No byte is lost, none comes twice, and no text acts on a terminal."""
    size, held = (1 + data[0], 4 + data[1]) if len(data) > 1 else (1, 4)
    body = data[2:]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for referable in (True, False):
        _cut(body, pieces, held, referable=referable)
    for output_bytes in (16, 1 << 16):
        _carry(body, pieces, output_bytes)
    lines = ReadLines()
    read = [line for piece in pieces for line in lines.feed(piece)] + list(lines.finish())
    joined = "".join(read).encode("utf-8", "surrogateescape")
    assert joined == (body if body.endswith(b"\n") or not body else body + b"\n")
    merged = [line for _, line in in_order_of_time([("a", read), ("b", read[::2])])]
    assert sorted(merged) == sorted(read + read[::2])
    text = body.decode("utf-8", "surrogateescape")
    shown = printable(text)
    assert all(each.isprintable() or each in "\n\t" for each in shown), shown
    record = json.loads(JsonLines("run").line(shown, "warning"))
    assert record["message"] == shown
    matching(body, [b"a", b"error"], b"[0]")
    if body:
        assert prefixed(body, b"p:").startswith(b"p:")


def _cut(body, pieces, held, *, referable):
    cutter = LineCutter(held, 0.3)
    found = []
    for number, piece in enumerate(pieces):
        found += cutter.feed(piece, referable=referable, now=number / 10)
        if cutter.due_at is not None and number % 3 == 0:
            cutter.take_beginning()
    last = cutter.finish()
    if last is not None:
        found.append(last)
    if referable:
        whole = b"".join(
            body[each.start : each.stop] if isinstance(each, LongLine) else each for each in found
        )
        assert whole in (body, body + b"\n")
    else:  # a newline stands where a line was broken
        kept = b"".join(found).replace(b"\n", b"")
        assert kept == body.replace(b"\n", b"")


def _carry(body, pieces, output_bytes):
    lines = Lines()
    one, two = KeptOutput(lines, output_bytes), KeptOutput(lines, output_bytes)
    for number, piece in enumerate(pieces):
        (one, two)[number % 2].take(piece, number / 100)
    one.finish()
    two.finish()
    queued = b"".join(lines.queue)
    assert len(queued) == len(body)
    assert sorted(queued) == sorted(body)
    assert one.printed_bytes + two.printed_bytes == len(body)
