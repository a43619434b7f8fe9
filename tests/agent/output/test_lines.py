"""Cutting a stream into whole lines."""

import pytest
from elrun.agent.output.lines import LineCutter, LongLine, holds_any, matching, prefixed
from hypothesis import example, given, settings
from hypothesis import strategies as st

MAX_HELD = 4

# Few letters, so that every order of them and of the ends of a line comes up, cut anywhere.
streams = st.lists(st.sampled_from([b"", b"a", b"bcdef", b"\r", b"\n", b"\r\n", b"g\nh", b"i\r"]))
thorough = settings(max_examples=80, deadline=None, database=None)


def lines_of(chunks, *, referable=True):
    """Everything that the cutter returns, as a reader of the stream sees it."""
    stream = b"".join(chunks)
    cutter = LineCutter(MAX_HELD)
    pieces = [piece for chunk in chunks for piece in cutter.feed(chunk, referable=referable)]
    pieces.append(cutter.finish() or b"")
    return b"".join(
        stream[piece.start : piece.stop] if isinstance(piece, LongLine) else piece
        for piece in pieces
    )


def fed(*chunks, referable=True):
    cutter = LineCutter(MAX_HELD)
    return [cutter.feed(chunk, referable=referable) for chunk in chunks]


@thorough
@given(streams)
def test_lines_do_not_depend_on_how_the_stream_was_cut(chunks):
    """Pipes cut where they like: the same bytes make the same lines, and no others."""
    assert b"".join(chunks).splitlines() == lines_of(chunks).splitlines()


@thorough
@given(streams)
def test_bytes_pass_as_they_are(chunks):
    """Nothing is changed; at most the newline that the stream's end lacks is added."""
    stream = b"".join(chunks)

    assert lines_of(chunks) in (stream, stream + b"\n")


@thorough
@given(streams, st.booleans())
def test_what_is_held_has_a_bound(chunks, referable):
    """However long a line gets, little of it is kept."""
    cutter = LineCutter(MAX_HELD)
    for chunk in chunks:
        cutter.feed(chunk, referable=referable)

        assert len(cutter._held) <= MAX_HELD


@thorough
@given(streams)
def test_whole_lines_come_in_the_chunk_that_ends_them(chunks):
    """Nothing waits: after each chunk, what is held is one unfinished line."""
    cutter = LineCutter(MAX_HELD)
    for chunk in chunks:
        cutter.feed(chunk, referable=True)

        assert len(cutter._held.splitlines()) <= 1


@thorough
@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"def\n"])))
def test_only_lines_beyond_the_bound_are_broken(chunks):
    """Where nobody keeps the stream, its short lines are whole, and its long ones lose nothing."""
    stream = b"".join(chunks)
    seen = lines_of(chunks, referable=False).splitlines()

    assert stream.replace(b"\n", b"") == b"".join(seen)
    assert all(line in seen for line in stream.splitlines() if len(line) <= MAX_HELD)


def test_a_carriage_return_alone_ends_a_line():
    """A progress bar's state is shown when the next one begins."""
    assert [[b"\r"], [b"1%\r"], [b"2%\r\n"]] == fed(b"\r1%", b"\r2%", b"\r\n")


def test_a_carriage_return_before_a_newline_ends_no_line_of_its_own():
    """Even where a chunk ends between the two."""
    assert [[], [b"a\r\n"]] == fed(b"a\r", b"\n")


def test_a_line_beyond_the_bound_is_described():
    """It isn't kept: its place in the stream is told when it ends, and lines after it are whole."""
    assert [[b"first\n"], [], [LongLine(6, 17), b"next\n"]] == fed(
        b"first\nlong line", b"", b"!\nnext\nrest"
    )


def test_a_line_beyond_the_bound_may_end_with_a_carriage_return():
    """The byte after it tells, in whichever chunk that comes."""
    assert [[], [LongLine(0, 10), b"next\n"]] == fed(b"long line\r", b"next\n")
    assert [[], [], [LongLine(0, 11)]] == fed(b"long line", b"\r", b"\n")


def test_a_line_beyond_the_bound_that_never_ends_is_described_at_the_end():
    """Then it lacks its newline."""
    cutter = LineCutter(MAX_HELD)
    cutter.feed(b"a long line", referable=True)

    assert LongLine(0, 11) == cutter.finish()


def test_a_line_beyond_the_bound_is_broken_where_nobody_keeps_the_stream():
    """Into lines of the bound's length."""
    assert b"0123\n4567\n89\n" == lines_of([b"0123456789", b"\n"], referable=False)


def test_a_line_beyond_the_bound_is_broken_where_the_stream_is_no_longer_kept():
    """As on a disk that becomes full: what is kept is described, and the rest is there as bytes."""
    cutter = LineCutter(MAX_HELD)

    assert [] == cutter.feed(b"a long line", referable=True)
    assert [LongLine(0, 11)] == cutter.feed(b" on", referable=False)
    assert [b" on\n", b"next\n"] == cutter.feed(b"\nnext\n", referable=False)[0].splitlines(True)


def test_a_line_that_has_the_bounds_length_is_not_broken():
    """The bound itself is allowed."""
    assert b"0123\n4567\n" == lines_of([b"01234567", b"\n"], referable=False)


def test_the_beginning_of_a_line_that_pauses_may_be_taken():
    """The whole line is returned all the same when it ends: how much was taken is known."""
    cutter = LineCutter(pause_s=0.3)
    cutter.feed(b"first\nloading ", referable=True, now=10.0)

    assert (10.3, b"loading ") == (cutter.due_at, cutter.take_beginning())
    assert (None, 8) == (cutter.due_at, cutter.taken_bytes)
    assert [b"loading done\n"] == cutter.feed(b"done\n", referable=True, now=11.0)
    assert (None, 0) == (cutter.due_at, cutter.taken_bytes)


def test_each_byte_puts_the_pause_off_but_not_for_ever():
    """A row of dots has no pause: a second after the first it is shown all the same."""
    cutter = LineCutter(pause_s=0.25)
    due = []
    for now in (10.0, 10.25, 10.5, 10.625, 10.875):
        cutter.feed(b".", referable=True, now=now)
        due.append(cutter.due_at)

    assert [10.25, 10.5, 10.75, 10.875, 11.0] == due
    assert b"....." == cutter.take_beginning()
    cutter.feed(b".", referable=True, now=11.125)
    assert 11.375 == cutter.due_at


def test_only_what_was_not_taken_is_due():
    """What has been shown isn't shown again."""
    cutter = LineCutter()
    taken = []
    for chunk in (b"load", b"ing ", b""):
        cutter.feed(chunk, referable=True)
        taken.append(cutter.take_beginning())

    assert [b"load", b"ing ", None] == taken


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        (b"50%\r", b"50%"),
        ("naïve".encode()[:3], b"na"),
        ("naïve".encode()[:4], "naï".encode()),
        ("中".encode()[:2], None),
        ("😀".encode()[:3], None),
        ("😀".encode(), "😀".encode()),
        (b"\xff\x80\x80\x80", b"\xff\x80\x80\x80"),
        (b"\r", None),
    ],
)
def test_what_may_be_half_of_something_is_not_shown(held, shown):
    """A carriage return may belong to a newline; a character in UTF-8 may not be whole."""
    cutter = LineCutter()
    cutter.feed(held, referable=True)
    is_due = cutter.due_at is not None

    assert (shown is not None, shown) == (is_due, cutter.take_beginning())


def test_the_beginning_of_a_line_beyond_the_bound_is_described():
    """From where it was taken last."""
    cutter = LineCutter(MAX_HELD)
    taken = []
    for chunk in (b"ab", b"cdefgh", b"i\r", b"j"):
        cutter.feed(chunk, referable=True)
        taken.append(cutter.take_beginning())

    assert [b"ab", LongLine(2, 8), LongLine(8, 9)] == taken[:3]


def test_each_line_gets_the_prefix():
    """Empty ones too; other bytes pass, whatever encoding they are."""
    assert b"[a0]:\xff\x00\n[a0]:\n[a0]:x\r\n" == prefixed(b"\xff\x00\n\nx\r\n", b"[a0]:")


def test_a_carriage_return_alone_gets_a_newline_under_a_prefix():
    """So that the states of two workers' progress bars don't stand in one line."""
    assert b"[a0]:1%\r\n[a0]:2%\r\n" == prefixed(b"1%\r2%\r", b"[a0]:")


def test_the_rest_of_a_line_gets_no_prefix():
    """Those after it do, and the last may lack its end."""
    assert b"done\n[a0]:next\n[a0]:half" == prefixed(b"done\nnext\nhalf", b"[a0]:", continues=True)


def test_lines_without_a_prefix_pass_as_they_are():
    """Progress bars move in place then."""
    assert b"1%\r2%\r" == prefixed(b"1%\r2%\r", b"")


def test_lines_with_any_of_the_words_match():
    """Each once, with the prefix and a newline."""
    lines = b"an apple\nnothing\nan orange and an apple\rapple\r\n"

    assert b"[a0]:an apple\n[a0]:an orange and an apple\n[a0]:apple\n" == matching(
        lines, [b"apple", b"orange"], b"[a0]:"
    )


def test_no_line_matches_where_no_word_is():
    """Nor does a word that two lines make together."""
    assert b"" == matching(b"app\nle\n", [b"apple"], b"[a0]:")


@thorough
@example([b"a", b"bcdef", b"bcdef", b"bcdef"], [b"defbcdefb"])
@given(streams, st.lists(st.sampled_from([b"a", b"ab", b"fb", b"ar", b"h\n", b"defbcdefb"])))
def test_words_are_found_across_pieces(pieces, words):
    """A word may lie on the edge of two pieces, or of many."""
    stream = b"".join(pieces)

    assert any(word in stream for word in words) == holds_any(pieces, words)
