"""What a comment promises about a lock is true: fields below it are used with that lock held.

``# The lock guards what follows`` in an ``__init__`` speaks of all fields set after it: each method
reads and writes them inside ``with self._lock``. ``written under the lock`` speaks of writes alone.
A method whose docstring says ``called with the lock held`` may use them, too.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import elrun

PACKAGE = Path(elrun.__file__).parent
PROMISE = re.compile(
    r"# .*(?P<all>lock guards what follows)|# .*written under the lock", re.IGNORECASE
)
HELD = "called with the lock held"


@dataclass(frozen=True)
class Promise:
    """The fields of a class that a lock guards.

    Args:
        place: File and class.
        node: The class.
        fields: The fields.
        includes_reads: Whether reads need the lock, too.
    """

    place: str
    node: ast.ClassDef
    fields: frozenset[str]
    includes_reads: bool


def promises(path, text):
    """Return the promises of a file's classes."""
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or method.name != "__init__":
                continue
            for number in range(method.lineno, method.end_lineno + 1):
                promise = PROMISE.search(lines[number - 1])
                if promise:
                    fields = {
                        each.attr
                        for each in ast.walk(method)
                        if isinstance(each, ast.Attribute)
                        and isinstance(each.ctx, ast.Store)
                        and each.lineno > number
                    }
                    place = f"{path}:{node.name}"
                    fields = frozenset(fields - {"_lock"})
                    found.append(Promise(place, node, fields, bool(promise["all"])))
    return found


def broken(promise):
    """Return where a field is used without the lock."""
    found = []

    def visit(node, method, is_held):
        if isinstance(node, ast.With):
            is_held = is_held or any(
                ast.unparse(item.context_expr) == "self._lock" for item in node.items
            )
        elif isinstance(node, ast.FunctionDef | ast.Lambda) and node is not method:
            is_held = False  # it runs later
        elif (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "self"
            and node.attr in promise.fields
            and not is_held
            and (promise.includes_reads or not isinstance(node.ctx, ast.Load))
        ):
            found.append(f"{promise.place}.{method.name}: {node.attr}, line {node.lineno}")
        for child in ast.iter_child_nodes(node):
            visit(child, method, is_held)

    for method in promise.node.body:
        if isinstance(method, ast.FunctionDef) and method.name != "__init__":
            visit(method, method, HELD in (ast.get_docstring(method) or ""))
    return found


PROMISES = [
    promise
    for path in sorted(PACKAGE.rglob("*.py"))
    for promise in promises(path.relative_to(PACKAGE).as_posix(), path.read_text())
]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.place)
def test_guarded_fields_are_used_with_the_lock_held(promise):
    """A reader who trusts the comment is not misled."""
    assert [] == broken(promise)


def test_the_promises_are_found():
    """The test above can fail."""
    assert {"Calls", "Driver", "Failover", "SoloRendezvous"} <= {
        promise.node.name for promise in PROMISES
    }


@pytest.mark.parametrize(
    ("comment", "body", "count"),
    [
        ("The lock guards what follows.", "return self._count", 1),
        ("What follows is written under the lock.", "return self._count", 0),
        ("What follows is written under the lock.", "self._count += 1", 1),
        ("The lock guards what follows.", "with self._lock: return self._count", 0),
        ("The lock guards what follows.", "with self._lock: return lambda: self._count", 1),
    ],
)
def test_a_use_without_the_lock_is_seen(comment, body, count):
    """Also one that runs later, and has the lock no more."""
    text = f"""
class Counter:
    def __init__(self):
        self._lock = Lock()
        # {comment}
        self._count = 0

    def count(self):
        {body}
"""
    (promise,) = promises("counter.py", text)

    assert count == len(broken(promise))
