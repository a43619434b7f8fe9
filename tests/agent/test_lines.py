"""Cutting a stream into whole lines."""

import itertools

from elrun.agent.lines import LineCutter, LongLine, holds_any, matching, prefixed
from hypothesis import given, settings
from hypothesis import strategies as st

MAX_HELD = 8

# Few letters, so that every order of them and of the two ends of a line comes up.
streams = st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n", b"abcdefghij"])).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=60))
thorough = settings(max_examples=150, deadline=None, database=None)


def chunks_of(stream, places):
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


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
@given(streams, cuts)
def test_lines_do_not_depend_on_how_the_stream_was_cut(stream, places):
    """Pipes cut where they like: the same bytes make the same lines, and no others."""
    assert stream.splitlines() == lines_of(chunks_of(stream, places)).splitlines()


@thorough
@given(streams, cuts)
def test_bytes_pass_as_they_are(stream, places):
    """Nothing is changed; at most the newline that the stream's end lacks is added."""
    seen = lines_of(chunks_of(stream, places))

    assert seen in (stream, stream + b"\n")


@thorough
@given(streams, cuts)
def test_what_is_held_has_a_bound(stream, places):
    """However long a line gets, little of it is kept."""
    cutter = LineCutter(MAX_HELD)
    for referable in (True, False):
        for chunk in chunks_of(stream, places):
            cutter.feed(chunk, referable=referable)

            assert len(cutter._held) <= MAX_HELD


@thorough
@given(st.lists(st.sampled_from([b"", b"a", b"abcdefg"])), cuts)
def test_short_lines_are_whole_where_nobody_keeps_the_stream(lines, places):
    """Only lines beyond the bound are ever broken."""
    stream = b"".join(line + b"\n" for line in lines)

    assert stream == lines_of(chunks_of(stream, places), referable=False)


@thorough
@given(streams, cuts)
def test_whole_lines_come_in_the_chunk_that_ends_them(stream, places):
    """Nothing waits: after each chunk, what is held is one unfinished line."""
    cutter = LineCutter(MAX_HELD)
    for chunk in chunks_of(stream, places):
        cutter.feed(chunk, referable=True)

        assert len(cutter._held.splitlines()) <= 1


def test_a_carriage_return_alone_ends_a_line():
    """A progress bar's state is shown when the next one begins."""
    assert [[b"\r"], [b"1%\r"], [b"2%\r\n"]] == fed(b"\r1%", b"\r2%", b"\r\n")


def test_a_carriage_return_before_a_newline_ends_no_line_of_its_own():
    """Even where a chunk ends between the two."""
    assert [[], [b"a\r\n"]] == fed(b"a\r", b"\n")


def test_a_line_beyond_the_bound_is_described():
    """It isn't kept: its place in the stream is told when it ends, and lines after it are whole."""
    assert [[b"short\n"], [], [LongLine(6, 17), b"next\n"]] == fed(
        b"short\nlong line", b"", b"!\nnext\nrest"
    )


def test_a_line_beyond_the_bound_that_never_ends_is_described_at_the_end():
    """Then it lacks its newline."""
    cutter = LineCutter(MAX_HELD)
    cutter.feed(b"a long line", referable=True)

    assert LongLine(0, 11) == cutter.finish()


def test_a_line_beyond_the_bound_is_broken_where_nobody_keeps_the_stream():
    """Into lines of the bound's length."""
    assert b"01234567\n89abcdef\ngh\n" == lines_of([b"0123456789abcdefgh\n"[:18]], referable=False)


def test_a_line_that_has_the_bounds_length_is_not_broken():
    """The bound itself is allowed."""
    assert b"01234567\n" == lines_of([b"01234567", b"\n"], referable=False)


def test_each_line_gets_the_prefix():
    """Empty ones too; other bytes pass, whatever encoding they are."""
    assert b"[a0]:\xff\x00\n[a0]:\n[a0]:x\r\n" == prefixed(b"\xff\x00\n\nx\r\n", b"[a0]:")


def test_a_carriage_return_alone_gets_a_newline_under_a_prefix():
    """So that the states of two workers' progress bars don't stand in one line."""
    assert b"[a0]:1%\r\n[a0]:2%\r\n" == prefixed(b"1%\r2%\r", b"[a0]:")


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
@given(streams, cuts, st.lists(st.sampled_from([b"a", b"ab", b"ba", b"jab", b"abcdefghija"])))
def test_words_are_found_across_pieces(stream, places, words):
    """A word may lie on the edge of two pieces, or of many."""
    assert any(word in stream for word in words) == holds_any(chunks_of(stream, places), words)
