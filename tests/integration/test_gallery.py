"""The gallery: each kind of death in each setting tells a person what has happened."""

import sys

import pytest
from gallery.judge import faults
from gallery.kinds import KINDS
from gallery.stage import run, why_not

ELRUN = (sys.executable, "-m", "elrun")


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, setting) for name, kind in KINDS.items() for setting in kind.settings],
)
def test_a_death_is_explained(name, setting, tmp_path):
    """Without opening a log: what happened, to which rank, on which node, and what followed."""
    kind = KINDS[name]
    if reason := why_not(kind):
        pytest.skip(reason)

    screens = run(kind, setting, tmp_path / "work", ELRUN)

    assert [] == faults(kind, setting, screens), "\n".join(screen.text for screen in screens)
