"""What a type checker sees of the public API: mypy reads a file of uses."""

import ast
import subprocess
import sys
from pathlib import Path

import elrun.agent
import elrun.agent.events
import elrun.agent.timers
import elrun.launcher
import elrun.rendezvous
import pytest

import elrun

HERE = Path(__file__).parent
USES = HERE / "uses.py"
DOORS = (
    elrun,
    elrun.agent,
    elrun.agent.events,
    elrun.agent.timers,
    elrun.launcher,
    elrun.rendezvous,
)
PRIVATE_TO_TORCHRUN = {"_RoleInstanceInfo"}


def names_in(path):
    """Return every name that a file imports or mentions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_public_name_is_used(door):
    """A name without a use here may be without a type for users."""
    assert set() == set(door.__all__) - names_in(USES) - PRIVATE_TO_TORCHRUN


@pytest.mark.integration  # mypy reads the whole package
def test_the_uses_have_the_types_that_they_say(tmp_path):
    """The installed package is typed: right uses pass, and wrong ones are errors."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file", HERE / "mypy.ini"]

    done = subprocess.run(
        [*command, "--cache-dir", tmp_path, USES],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "Success: no issues found in 1 source file\n") == (done.returncode, done.stdout)
