"""What a sealer writes about seats."""

from elrun.rendezvous.protocol.keys import FIRST_BEAT, RunKeys
from elrun.rendezvous.protocol.records import Limits, Member, Node, NotTaken, Roster
from elrun.rendezvous.protocol.roster import place_of, places_to_write, unoccupied
from elrun.rendezvous.protocol.wire import read_forming, read_node, read_place

RUN = RunKeys("run")
KEYS = RUN.round(7)
NODE = Node("a", "::1", 1, 1, "default", Limits(1, 3))
ROSTER = Roster(7, 0, 0, Limits(1, 3), (Member(0, NODE), Member(2, NODE)))


def test_a_sealed_round_leaves_places_beats_and_the_way_to_the_next_round():
    """Every seat has a place, every member a first beat, and newcomers begin with round 8."""
    written = places_to_write(RUN, ROSTER, 3)
    places = [read_place(KEYS.place(seat), written.pop(KEYS.place(seat))) for seat in range(3)]

    assert [place_of(ROSTER, 0), NotTaken(), place_of(ROSTER, 2)] == places
    assert 8 == read_forming(RUN.record, written.pop(RUN.record))
    assert {KEYS.beat(0): FIRST_BEAT, KEYS.beat(1): FIRST_BEAT} == written


def test_an_empty_seat_has_a_record_of_a_node_that_has_left():
    """A sealer that waits for the seat wakes up, and counts nobody there."""
    written = unoccupied(KEYS, [4, 5], NODE)

    assert [KEYS.node(4), KEYS.node(5)] == list(written)
    assert {True} == {read_node(key, data).is_withdrawn for key, data in written.items()}
