"""Fields of records that another process wrote: what is taken, and what is refused."""

import pytest
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.protocol.record_reader import Record

LARGEST = (1 << 31) - 1

TAKEN = {
    "a name of 512 characters": ("text", "x" * 512),
    "no name": ("text", ""),
    "the least number": ("count", 0),
    "the largest number": ("count", LARGEST),
    "no numbers": ("counts", []),
    "numbers from 0 on": ("counts", [0, 3, LARGEST]),
    "an object": ("mapping", {"a": 1}),
    "no": ("flag", False),
}
REFUSED = {
    "a name of 513 characters": ("text", "x" * 513, "a string of at most 512 characters"),
    "a number for a name": ("text", 1, "a string of at most 512 characters"),
    "a negative number": ("count", -1, f"a number from 0 to {LARGEST}"),
    "too large a number": ("count", LARGEST + 1, f"a number from 0 to {LARGEST}"),
    "a truth value for a number": ("count", True, f"a number from 0 to {LARGEST}"),
    "a fraction": ("count", 1.0, f"a number from 0 to {LARGEST}"),
    "a negative number among others": ("counts", [1, -1], "a list of numbers from 0 on"),
    "a number too large among others": ("counts", [LARGEST + 1], "a list of numbers from 0 on"),
    "a number for numbers": ("counts", 1, "a list of numbers from 0 on"),
    "three numbers for a pair": ("pair", [1, 2, 3], "a pair of numbers"),
    "one number for a pair": ("pair", [1], "a pair of numbers"),
    "a list for an object": ("mapping", [], "an object"),
    "1 for yes": ("flag", 1, "true or false"),
    "a name that no host has": ("address", "a b", "a host's name or address"),
    "an object for a list": ("records", {}, "a list of objects"),
    "names among objects": ("records", [{}, "a"], "a list of objects"),
}


def record(value):
    return Record("run/job/key", "node", {"field": value})


@pytest.mark.parametrize(("kind", "value"), TAKEN.values(), ids=TAKEN)
def test_a_field_within_its_limits_is_taken(kind, value):
    """Both ends of a range are in it."""
    assert value == getattr(record(value), kind)("field")


@pytest.mark.parametrize(("kind", "value", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_field_beyond_its_limits_is_refused(kind, value, wanted):
    """The error names key, field, value and what would be right."""
    with pytest.raises(RendezvousStateError) as refused:
        getattr(record(value), kind)("field")

    assert f"run/job/key: field is {repr(value)[:80]}, not {wanted}" == str(refused.value)


@pytest.mark.parametrize("kind", ["text", "count", "counts", "flag", "mapping", "records"])
def test_a_field_that_is_missing_is_refused(kind):
    """The error says which."""
    with pytest.raises(RendezvousStateError, match="the node record has no 'other'"):
        getattr(record(1), kind)("other")


def test_a_long_value_is_cut_in_errors():
    """A record of megabytes must not fill the log."""
    long = "x" * 600

    assert repr(long)[:80] == record(long).glimpse("field")


def test_records_within_a_record_know_their_place():
    """An error in the third member of a roster names it."""
    inner = record([{"a": 1}, {}]).records("field")

    with pytest.raises(RendezvousStateError, match=r"run/job/key, field\[1\]: .* has no 'a'"):
        inner[1].count("a")
    assert (1, True, False) == (inner[0].count("a"), inner[0].has("a"), inner[1].has("a"))


def test_null_is_not_the_same_as_missing():
    """An optional field may say that there is nothing."""
    assert [True, False] == [record(None).is_null("field"), record(None).is_null("other")]
