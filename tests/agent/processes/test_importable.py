"""Whether a fresh interpreter finds a function."""

import functools
import importlib.util
import math
import operator
import sys

import pytest
import worker_functions
from elrun.agent.processes.importable import require_guard, require_importable


class Called:
    """Found by its class."""

    def __call__(self):
        """Do nothing."""

    def method(self):
        """Do nothing."""

    @classmethod
    def of_class(cls):
        """Do nothing."""

    @staticmethod
    def of_nothing():
        """Do nothing."""


class BringsItself:
    """As what cloudpickle wraps: another package restores it."""

    def __reduce__(self):
        return int, ()


static_in_c = str.maketrans
static_in_c.__module__ = __name__  # as torch says of torch.ones and its like


def plain():
    """Do nothing."""


@functools.wraps(plain)
def wrapped():
    """Stand for another function, under its name."""


def replaced():
    """Be another one by the time that it is looked up."""


before, replaced = replaced, plain


def local():
    """Return a function and an object that have no name of their own."""

    class Local:
        def __call__(self):
            pass

    return lambda: None, Local()


@pytest.mark.parametrize(
    "function",
    [
        plain,
        worker_functions.hang,
        functools.partial(plain),
        Called(),
        Called().method,
        Called.of_class,
        Called.of_nothing,
        BringsItself(),
        len,
        math.sqrt,
        static_in_c,
        dict.fromkeys,
        "word".upper,
        operator.itemgetter(1),
        dict,
    ],
    # The same in every process that collects the tests: a repr has an address in it.
    ids=lambda each: str(getattr(each, "__name__", type(each).__name__)),
)
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_what_has_a_name_in_a_module_is_found(function, method):
    """Functions, classes, objects of such classes, and what brings its own way."""
    assert require_importable(function, method) is None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "it is a lambda"),
        (local()[0], "it is a lambda"),
        (local()[1], "it is defined inside another function"),
        (functools.partial(functools.partial(lambda: None)), "it is a lambda"),
        (local()[1].__call__, "it is defined inside another function"),
        (before, f"{__name__}.replaced is something else"),
        (wrapped, f"{__name__}.plain is something else"),
    ],
)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_has_none_is_refused(function, reason, method):
    """With what to do instead."""
    with pytest.raises(ValueError) as caught:
        require_importable(function, method)

    advice = "give a function from the top level of a module, or start_method='fork'"
    assert str(caught.value).endswith(
        f" can't be sent to a new process (start_method={method!r}): {reason}; {advice}"
    )
    assert require_importable(function, "fork") is None


def test_a_module_that_nobody_else_finds_is_refused(tmp_path, monkeypatch):
    """A program that loads a file by its path knows it alone."""
    (tmp_path / "alone.py").write_text("def f(): pass")
    spec = importlib.util.spec_from_file_location("elrun_alone", tmp_path / "alone.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "elrun_alone", module)

    with pytest.raises(ValueError, match="no new process finds the module elrun_alone; give"):
        require_importable(module.f, "spawn")


def test_a_function_may_launch_as_it_likes():
    """It may have looked at something; and a module that is imported runs once."""
    assert require_guard("spawn", sys._getframe()) is None
    assert require_guard("spawn", None) is None
