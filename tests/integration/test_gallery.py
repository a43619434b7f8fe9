"""The gallery: each kind of death in each setting tells a person what has happened."""

import sys

import pytest
from gallery.judge import faults
from gallery.kinds import KINDS
from gallery.stage import run, why_not

ELRUN = (sys.executable, "-m", "elrun")
# Words of programs without a hook, where elrun does not carry their standard error yet.
NOT_CARRIED = {
    (name, setting)
    for name in (
        *("bash", "bash command", "fatal line", "terminate", "double free"),
        "segfault own handler",
    )
    for setting in ("pipe", "nodes")
}
# The other node does not learn of it yet.
NOT_TOLD = {("script missing on a node", "nodes")}


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name, kind in KINDS.items() for setting in kind.settings],
)
def test_a_death_is_explained(name, setting, tmp_path):
    """Without opening a log: what happened, to which rank, on which node, and what followed."""
    kind = KINDS[name]
    if reason := why_not(kind):
        pytest.skip(reason)
    if (name, setting) in NOT_CARRIED | NOT_TOLD:
        pytest.xfail("not carried, or not told to the other nodes")

    screens = run(kind, setting, tmp_path / "work", ELRUN)

    assert [] == faults(kind, setting, screens), "\n".join(screen.text for screen in screens)
