"""What a function of a notebook is called with."""

import pytest
from elrun.rendezvous.errors import UsageError

from elrun import notebook_launch


@pytest.mark.parametrize("args", [0.1, None, 3, "lr", b"lr", True])
def test_one_value_instead_of_a_tuple_is_refused(args):
    """A tuple of one value is easily written without its comma."""
    with pytest.raises(UsageError, match="give a tuple of what the function is called with: "):
        notebook_launch(print, args, nproc=2)


@pytest.mark.parametrize("fn", ["train", print(end=""), 0.1, b"train", ("train",)])
def test_what_is_no_function_is_refused(fn):
    """A string would be a program for ``elastic_launch``; a result comes of a function's call."""
    with pytest.raises(UsageError, match="give a function, without "):
        notebook_launch(fn, (1,), nproc=2)


@pytest.mark.parametrize("nproc", ["2", 0, -1, 1.5, None, [2]])
def test_what_is_no_number_of_workers_is_refused(nproc):
    """By the name that the caller has used, which is none of ``LaunchConfig``'s."""
    with pytest.raises(UsageError, match="^nproc=.*: give a whole number, 1 or more$"):
        notebook_launch(print, (), nproc=nproc)
