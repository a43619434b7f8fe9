"""What a node tells the others of itself, for whatever is run."""

from types import SimpleNamespace

import pytest
from elrun.agent.elastic.facts import Supervision
from elrun.agent.elastic.node_traits import traits_of
from elrun.agent.workers.worker import WorkerSpec
from elrun.rendezvous.protocol.differences import ARGUMENTS, SCRIPT


def train(*_):
    """Train."""


def run_script_path(*_):
    """Bear the name of elrun's own function."""


def traits(entrypoint, *args):
    spec = WorkerSpec("trainer", 1, None, entrypoint=entrypoint, args=args)
    group = SimpleNamespace(spec=spec)
    environ = {"PATH": "/usr/bin:/bin"}
    return traits_of(
        SimpleNamespace(
            group=group, environ=environ, supervision=Supervision(), shutdown_timeout_s=30
        )
    )


@pytest.mark.parametrize("word", ["\ud800", "\0", "a" * 10_000, "ä"])
@pytest.mark.parametrize("entrypoint", [train, "true"])
def test_arguments_may_be_any_text(entrypoint, word):
    """A function takes what no command line could hold."""
    others = traits(entrypoint, "other")[ARGUMENTS]

    assert (8, True) == (
        len(traits(entrypoint, word)[ARGUMENTS]),
        others != traits(entrypoint, word),
    )


@pytest.mark.parametrize(
    ("entrypoint", "args", "script"),
    [
        (train, (), "train"),
        (run_script_path, (), "run_script_path"),
        (run_script_path, ("/a/b.py", "x"), "b.py"),
        ("true", (), "true"),
        ("true", ("-m",), "true"),
        ("true", ("x", "-m"), "true"),
    ],
)
def test_what_is_run_has_a_name(entrypoint, args, script):
    """Whatever stands behind it."""
    assert script == traits(entrypoint, *args)[SCRIPT]
