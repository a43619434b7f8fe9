"""Long tracebacks lose the middle of their messages, and keep their frames."""

from elrun.agent.failures.shortening import shortened_traceback

FRAMES = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()"]
ROWS = [f"row {n}" for n in range(2000)]


def test_a_short_text_stays_as_it_is():
    """Whatever it is."""
    text = "\n".join([*FRAMES, "ValueError: x", "  more of it"])

    assert text == shortened_traceback(text)


def test_a_long_message_loses_its_middle_and_the_frames_stay():
    """It is said how much is left out, and where it stands."""
    lines = shortened_traceback("\n".join([*FRAMES, "ValueError: bad", *ROWS]), "e.json").split(
        "\n"
    )

    assert [*FRAMES, "ValueError: bad", "row 0"] == lines[:5]
    assert "row 1999" == lines[-1]
    (mark,) = [line for line in lines if line.startswith("...")]
    shown = len(lines) - len(FRAMES) - 1
    assert f"... {2001 - shown} lines are left out here; they stand in e.json ..." == mark
    assert 200 == len(lines)


def test_the_message_of_a_cause_is_shortened_too():
    """The longest message first; the words of the last exception stay."""
    text = "\n".join([
        *FRAMES, "ValueError: bad", *ROWS, "",
        "The above exception was the direct cause of the following exception:", "",
        *FRAMES, "RuntimeError: asked",
    ])  # fmt: skip

    lines = shortened_traceback(text).split("\n")

    assert 2 == sum(line == FRAMES[1] for line in lines)
    assert "RuntimeError: asked" == lines[-1]
    assert len(lines) <= 200


def test_too_many_frames_lose_their_middle():
    """The first and the last say most."""
    frames = [f'  File "a.py", line {n}, in f' for n in range(1000)]
    lines = shortened_traceback("\n".join([FRAMES[0], *frames, "ValueError: x"])).split("\n")

    assert (frames[0], frames[-1], "ValueError: x") == (lines[1], lines[-2], lines[-1])
    assert len(lines) <= 201


def test_a_long_line_loses_its_middle():
    """A text of a megabyte in one line."""
    text = shortened_traceback("\n".join([*FRAMES, f"ValueError: {'x' * 1_000_000}y"]))

    assert text.startswith("\n".join([*FRAMES, "ValueError: xxx"]))
    assert text.endswith("xy")
    assert "characters are left out here" in text
    assert len(text) < 3_000


def test_whatever_comes_fits():
    """Also what has no structure at all."""
    for text in ("x\n" * 10**5, "x" * 10**6, "  |" * 10**5, ("y" * 1999 + "\n") * 500):
        assert len(shortened_traceback(text)) <= 16_000
