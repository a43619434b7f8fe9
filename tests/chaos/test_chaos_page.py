"""The page of `make chaos` is what its writer writes, but for the figures."""

from pathlib import Path

from rig.page import HEAD, TAIL

PAGE = Path(__file__, "..", "..", "..", "docs", "reliability.md").resolve()


def test_the_words_of_the_page_are_those_of_its_writer():
    """So what is mended on the page is mended in the writer, and a run changes figures only."""
    text = PAGE.read_text()

    assert text.startswith(HEAD)
    assert text.endswith(TAIL)
