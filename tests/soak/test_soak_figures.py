"""What `make soak` takes for growth."""

import pytest
import soak
from soak import DESCRIPTORS, MB, MEMORY, Series, Watch, render


@pytest.mark.parametrize(
    ("values", "has_grown"),
    [
        ([20 * MB] * 20, False),
        ([5 * MB, 10 * MB, 15 * MB, 18 * MB, *[20 * MB] * 16], False),
        ([(20 + 0.4 * i) * MB for i in range(20)], True),
        ([(20 + 0.05 * i) * MB for i in range(20)], False),
        ([*[20 * MB] * 15, *[40 * MB] * 5], True),
        ([*[20 * MB] * 19, 40 * MB], False),
        ([20 * MB], False),
    ],
    ids=["flat", "filling", "growing", "rounding", "a step", "a peak", "one look"],
)
def test_what_is_higher_at_the_end_has_grown(values, has_grown):
    """But for what fills at first, what allocators round up, and a peak."""
    assert has_grown == Series("agent", MEMORY, values).has_grown()


@pytest.mark.parametrize(
    ("filling", "last", "has_grown"),
    [(0, 20, True), (12, 20, False), (12, 30, True), (20, 20, False)],
    ids=["filled at once", "filled after 12", "growing afterwards", "never filled"],
)
def test_memory_that_is_being_filled_is_not_compared(filling, last, has_grown):
    """The first 200 attempts stand in the report: a short run must not take them for growth."""
    values = [*[(8 + i) * MB for i in range(12)], *[20 * MB] * 4, *[last * MB] * 4]

    assert has_grown == Series("agent", MEMORY, values, filling).has_grown()


def test_the_table_marks_what_has_grown():
    """In the column of the end."""
    grown = Series("agent 0", DESCRIPTORS, [10 + i for i in range(30)])

    assert "| agent 0 | descriptors | 18.5 | 36.5 **grown** | 39 |" == list(render([grown]))[2]


def test_what_was_there_for_a_moment_is_left_out():
    """A process that ended early has no end to be compared with."""
    watch = Watch()
    for value in range(10):
        watch._add("agent", MEMORY, value)
    watch._add("helper", MEMORY, 1)

    assert ["agent"] == [each.subject for each in watch.series()]


def test_the_page_keeps_its_words(tmp_path, monkeypatch):
    """Only what stands between the markers is written anew."""
    page = tmp_path / "soak.md"
    page.write_text("# Soak\n\n<!-- figures -->\nold\n<!-- end of figures -->\n\nafter\n")
    monkeypatch.setattr(soak, "PAGE", page)

    soak.write_page(["new", "", "| table |"])

    assert (
        "# Soak\n\n<!-- figures -->\n\nnew\n\n| table |\n\n<!-- end of figures -->\n\nafter\n"
        == (page.read_text())
    )
