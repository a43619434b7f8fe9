"""elrun's ``NamedTuple`` beside the one of ``typing``, which it stands in for."""

import copy
import inspect
import pickle
import sys
import typing

import pytest
from elrun.rendezvous.named_tuple import NamedTuple


class Place(NamedTuple):
    """Where a node sits."""

    seat: int
    host: str = "here"
    port: int = 0

    @property
    def endpoint(self):
        return f"{self.host}:{self.port}"

    def __str__(self):
        return self.endpoint


class Model(typing.NamedTuple):
    seat: int
    host: str = "here"
    port: int = 0


CALLS = [
    ((1,), {}),
    ((1, "there", 2), {}),
    ((), {"port": 3, "seat": 4}),
    ((5, "there"), {"port": 6}),
]
WRONG_CALLS = [
    ((), {}),
    ((1, "there", 2, 3), {}),
    ((1,), {"seat": 2}),
    ((1,), {"color": "red"}),
    ((), {"host": "there"}),
]


class Frequent(NamedTuple):
    """A class of which there are very many values."""

    seat: int
    host: str = "here"
    port: int = 0


for _ in range(1000):
    Frequent(1)


@pytest.mark.parametrize("kind", [Place, Frequent])
@pytest.mark.parametrize(("values", "named"), CALLS)
def test_values_are_those_of_typings_named_tuple(kind, values, named):
    """By position, by name, and by default; the first ones as the thousandth."""
    ours, model = kind(*values, **named), Model(*values, **named)

    assert (tuple(model), model._asdict(), hash(model)) == (tuple(ours), ours._asdict(), hash(ours))
    assert (model.seat, model.host, model.port) == (ours.seat, ours.host, ours.port)
    assert repr(model) == repr(ours).replace(kind.__name__, "Model")


def test_a_class_of_many_values_has_a_constructor_of_its_own():
    """A compiled one: it costs a start nothing, as no start makes so many."""
    assert Place.__new__ is not Frequent.__new__


def test_copy_replace_changes_fields():
    """``copy.replace`` of Python 3.13 calls the method ``__replace__`` of a value."""
    place = Place(1, "there")

    assert Place(1, "there", 2) == place.__replace__(port=2)
    if sys.version_info >= (3, 13):
        assert Place(1, "there", 2) == copy.replace(place, port=2)


@pytest.mark.parametrize(("values", "named"), WRONG_CALLS)
def test_what_typing_refuses_is_refused(values, named):
    """A value too many, twice or missing, and a name that is no field's."""
    for kind in (Place, Frequent, Model):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_a_wrong_call_is_told_with_the_fields():
    """Whoever made it sees what there is."""
    with pytest.raises(
        TypeError, match=r"^Place has the fields \(seat, host, port\), not \(1, x\)"
    ):
        Place(1, x=2)


def test_the_class_knows_its_fields_as_typings_does():
    """For whoever reads them."""
    assert Model._fields == Place._fields
    assert Model._field_defaults == Place._field_defaults
    assert Model.__match_args__ == Place.__match_args__
    assert Model.__annotations__ == Place.__annotations__
    assert typing.get_type_hints(Model).items() <= typing.get_type_hints(Place).items()
    assert (__name__, "Place") == (Place.__module__, Place.__qualname__)
    assert type is type(Place)


def test_one_is_made_of_another_or_of_a_sequence():
    """``_replace`` and ``_make``."""
    assert Place(2, "there") == Place(1, "there")._replace(seat=2)
    assert Place(1, "there", 3) == Place._make([1, "there", 3])
    with pytest.raises(TypeError):
        Place(1)._replace(color="red")


def test_a_value_is_frozen_and_has_no_other_attributes():
    """As all values are."""
    for name in ("seat", "color"):
        with pytest.raises(AttributeError):
            setattr(Place(1), name, 2)
    assert sys.getsizeof(Model(1)) == sys.getsizeof(Place(1))


def test_it_unpacks_and_matches():
    """It is a tuple."""
    seat, host, _ = Place(1)
    match Place(7, "there"):
        case Place(7, where):
            pass

    assert (1, "here", "there") == (seat, host, where)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_it_can_be_copied_and_pickled(again):
    """Between an agent and its workers."""
    assert (Place(1, "there"), Place) == (again(Place(1, "there")), type(again(Place(1, "there"))))


def test_methods_and_properties_stay():
    """A class statement has more than fields."""
    assert ("here:0", "here:0") == (Place(1).endpoint, str(Place(1)))


def test_a_subclass_is_a_plain_class():
    """People derive from public values."""

    class Named(Place):
        color = "red"

    assert (("seat", "host", "port"), "red", "Named") == (
        Named._fields,
        Named(1).color,
        repr(Named(1)).partition("(")[0],
    )
    assert isinstance(Named(1)._replace(seat=2), Named)


def test_a_field_without_a_default_after_one_with_a_default_is_refused():
    """When the class is made, as by ``typing``."""
    with pytest.raises(TypeError, match="Wrong: a field without a default"):

        class Wrong(NamedTuple):
            seat: int = 0
            host: str


def test_the_signature_is_that_of_the_fields():
    """Programs that ask what a call takes get what typing's tells."""
    assert inspect.signature(Model) == inspect.signature(Place)
