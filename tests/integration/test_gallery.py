"""The gallery: each kind of death in each setting tells a person what has happened."""

import sys

import pytest
from gallery.judge import faults
from gallery.kinds import KINDS
from gallery.page import PAGE, renewed
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


def test_a_chapter_that_is_not_recorded_anew_stays():
    """To record one kind takes seconds, and all of them minutes."""
    page = PAGE.read_text()
    first, second, *_ = (kind.title for kind in KINDS.values())
    after = page[page.index(f"\n## {second}\n") :]

    changed = renewed(page, {first: f"## {first}\n\nanew"})

    assert (page, f"\n\n## {first}\n\nanew\n{after}") == (
        renewed(page, {}),
        changed[changed.index(f"\n\n## {first}\n") :],
    )
