"""Keys of rounds that are over are freed: a run keeps only its newest rounds."""

import pytest
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT, round_of
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.server.table import RoundOverError, StoreTable
from rounds_kit import RUN, rounds


def test_only_the_newest_rounds_of_a_run_are_kept():
    """The run's record stays, and so do other runs."""
    table = StoreTable()
    table.set({RUN.record: b"r", RunKeys("other").round(0).verdict: b"o"})
    rounds(table, 20)
    assert {None} == {*table.work()}
    found = table.get([RUN.round(number).verdict for number in range(20)])

    assert [None] * (20 - ROUNDS_KEPT) + [b"v"] * ROUNDS_KEPT == found
    assert [b"r", b"o"] == table.get([RUN.record, RunKeys("other").round(0).verdict])


def test_a_round_is_gone_at_one_instant():
    """Its keys are forgotten one by one, and nobody reads a half of them."""
    table = StoreTable()
    keys = [RUN.round(0).seats, RUN.round(0).verdict, RUN.round(0).node(0)]
    table.set(dict.fromkeys(keys, b"1"))
    for number in range(1, 9):
        table.set({RUN.round(number).seats: b"1"})
    seen = [table.get([*keys, RUN.round(8).seats])]
    for _ in table.work():
        seen.append(table.get([*keys, RUN.round(8).seats]))

    assert [[None, None, None, b"1"]] * len(seen) == seen
    assert 8 == len(table._values)


def test_what_a_late_node_says_of_a_round_that_is_over_changes_nothing():
    """Its beats are lost; it may not count, create or wait there."""
    table = StoreTable()
    rounds(table, 20)
    keys = RUN.round(3)
    table.set({keys.beat(0): b"7", "k": b"v"})
    for call in (
        lambda: table.add(keys.seats, 1),
        lambda: table.create(keys.verdict, b"v", b""),
        lambda: table.wait("w", [keys.verdict]),
    ):
        with pytest.raises(RoundOverError, match="round 3 is over, and newer ones"):
            call()

    assert [None, b"v"] == table.get([keys.beat(0), "k"])


def test_a_wait_for_a_round_that_is_freed_has_an_end():
    """Nobody can write its key any more."""
    table = StoreTable()
    rounds(table, 1)
    late = table.wait("late", [RUN.round(0).outcome(1), "k"])
    other = table.wait("other", ["k"])
    rounds(table, 20, first=1)
    lost = {*filter(None, table.work())}
    table.forget(late)
    table.set({"k": b"1"})

    assert {late} == lost
    assert [other] == [*filter(None, table.work())]


def test_nobody_waits_while_freed_rounds_are_looked_for_among_awaited_keys():
    """However many are awaited, and however many rounds are freed meanwhile."""
    table, others = StoreTable(), 5000
    table.wait("others", [f"key/{number}" for number in range(others)])
    rounds(table, ROUNDS_KEPT)
    late = table.wait("late", [RUN.round(0).outcome(1)])
    soon = table.wait("soon", ["k"])
    rounds(table, 20, first=ROUNDS_KEPT)
    steps = table.work()
    freed = sum(1 for _ in range(1000) if next(steps) is None)
    table.set({"k": b"1"})
    before = [*iter(lambda: next(steps), soon)]
    rest = [*steps]

    assert (1000, []) == (freed, before)
    assert (late, True) == (next(filter(None, rest)), len(rest) < 2 * others + 1000)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("run/a%2Fb/round/12/seats", ("a%2Fb", 12)),
        ("run/job/round/7/shared/x/y", ("job", 7)),
        ("run/job/round", None),
        ("run/job/round/7", None),
        ("run/job/round/x/seats", None),
        ("run/job/round/-1/seats", None),
        ("run/job/round/²/seats", None),
        ("run/job/round/" + "9" * 5000 + "/seats", None),
        ("other", None),
    ],
)
def test_a_key_says_which_round_it_belongs_to(key, place):
    """Others are never freed."""
    assert place == round_of(key)
