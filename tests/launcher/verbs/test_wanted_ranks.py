"""`--rank` of the verbs: one rank, or several."""

import click
import pytest
from elrun.launcher.verbs.ranks import WantedRanks, known_ranks, parse_ranks


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        (["3"], [3]),
        (["0,3-5"], [0, 3, 4, 5]),
        (["0", "2"], [0, 2]),
        ([" 1 , 4 - 4 "], [1, 4]),
        (["0-999999999"], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_ranks_are_numbers_and_spans(texts, expected):
    """Commas separate them, and the option may be given again; without it all are wanted."""
    wanted = WantedRanks(map(parse_ranks, texts))

    assert expected == [rank for rank in range(6) if rank in wanted]


@pytest.mark.parametrize("text", ["", "a", "-1", "5-3", "1,,2", "1-", "1.5", "٣", "9" * 5_000])
def test_what_is_no_rank_is_refused(text):
    """With what would be one."""
    with pytest.raises(click.BadParameter, match="is no rank: give one, as 3, or several: 0,3-5"):
        parse_ranks(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", ""),
        ("9", "rank 9"),
        ("0,9", "rank 9"),
        ("7,9", "ranks 7, 9"),
        ("0-100", ""),
        ("50-100", "ranks 50-100"),
    ],
)
def test_ranks_that_are_not_there_are_named(text, expected):
    """Of a span one rank is enough: people write 0-100 for all."""
    assert expected == WantedRanks([parse_ranks(text)]).absent_from({0, 1, 2})


def test_known_ranks_are_folded():
    """As in every other sentence."""
    assert ["no rank", "rank 3", "ranks 0-1, 3"] == [
        known_ranks(ranks) for ranks in (set(), {3}, {3, 0, 1})
    ]
