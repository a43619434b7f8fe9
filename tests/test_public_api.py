"""The public API as a text, in `tests/public_api.txt`: what changes there is seen in review.

A name that leaves, a parameter that is renamed, a default that changes: each breaks somebody's
script. So a change needs `pytest tests/test_public_api.py --rewrite`, a line in CHANGELOG.md, and
what CONTRIBUTING.md says of names that leave.
"""

import enum
import importlib
import inspect
import sys
from pathlib import Path

import pytest

DOORS = (
    "elrun",
    "elrun.agent",
    "elrun.agent.events",
    "elrun.agent.timers",
    "elrun.launcher",
    "elrun.rendezvous",
)
SNAPSHOT = Path(__file__).with_name("public_api.txt")


def signature_of(value):
    """Return a call's parameters, with their types as they stand in the source."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    return str(signature)


def describe_class(name, kind):
    """Yield a class's bases, its call, and the public members that are its own or a room's."""
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    yield f"class {name}({bases}){'' if issubclass(kind, enum.Enum) else signature_of(kind)}"
    for member in sorted(dir(kind)):
        if member.startswith("_"):
            continue
        value = inspect.getattr_static(kind, member)
        home = next(base for base in kind.__mro__ if member in vars(base))
        if not home.__module__.startswith("elrun"):
            continue
        yield f"    {describe_member(member, value)}"


def describe_member(name, value):
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{signature_of(value.__func__)}"
    if isinstance(value, property):
        return f"property {name}"
    if isinstance(value, enum.Enum):
        return f"{name} = {value.value!r}"
    if inspect.isfunction(value):
        return f"def {name}{signature_of(value)}"
    return f"{name}"


def describe(door):
    """Yield what a package's public names are."""
    module = importlib.import_module(door)
    yield f"# {door}"
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from describe_class(name, value)
        elif callable(value):
            yield f"def {name}{signature_of(value)}"
        else:
            yield f"{name}: {type(value).__name__}"
    yield ""


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Pythons write signatures differently")
def test_the_public_api_changes_only_knowingly(request):
    """Names, parameters with their types and defaults, and members of public classes."""
    described = "\n".join(line for door in DOORS for line in describe(door))
    if request.config.getoption("--rewrite"):
        SNAPSHOT.write_text(described)

    assert SNAPSHOT.read_text() == described
