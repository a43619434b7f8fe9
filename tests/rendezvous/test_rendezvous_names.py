"""The public names of the room."""

import pytest

from elrun import rendezvous


@pytest.mark.parametrize("name", rendezvous.__all__)
def test_a_public_name_is_there(name):
    """Each name that is promised can be imported, and has a docstring."""
    assert getattr(rendezvous, name).__doc__ or name == "RendezvousHandlerCreator"


def test_an_unknown_name_is_told_as_usual():
    """Lazy loading does not change how a misspelt name fails."""
    with pytest.raises(AttributeError, match="no attribute 'RendezvousHandle'"):
        _ = rendezvous.RendezvousHandle


def test_names_are_listed():
    """dir() shows what can be imported."""
    assert set(rendezvous.__all__) <= set(dir(rendezvous))
