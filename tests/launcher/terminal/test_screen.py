"""How wide a text may be, whatever the variable COLUMNS says."""

import io

import pytest
from elrun.launcher.terminal.console import Console
from elrun.launcher.terminal.screen import columns_named
from elrun.launcher.verbs.check import Check, Verdict
from elrun.launcher.verbs.check_table import show_table
from elrun.launcher.verbs.status_table import show
from elrun.launcher.verbs.view import Overview, Rank
from summary_kit import failed, report, summary

pytestmark = pytest.mark.usefixtures("utc")


class Terminal(io.StringIO):
    """A terminal of unknown width."""

    def isatty(self):
        return True


def failure_on(stream):
    summary(report(failed(1)), None, stream)


def status_on(stream):
    rank = Rank(1, "gpu0", 4711, "sleeping", 98.0, 3 << 30, 2.0, "step 7")
    facts = {"run_id": "job7", "is_running": True, "state": "running", "since_s": 5.0}
    facts |= {"runs_for_s": 6.0, "restarts": {"spent": None}}
    show(Overview(facts, [], [rank]), Console(stream))


def checks_on(stream):
    show_table([Check("clock", Verdict.OK, "it is noon")], Console(stream))


@pytest.mark.parametrize("columns", ["0", "", "00", "-3", "wide", "²"])
@pytest.mark.parametrize("draw", [failure_on, status_on, checks_on])
@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_columns_into_which_nothing_fits_do_not_count(monkeypatch, kind, draw, columns):
    """Some terminals say 0, and a report of no columns would have no text at all."""
    usual, stream = kind(), kind()
    draw(usual)
    monkeypatch.setenv("COLUMNS", columns)

    draw(stream)

    assert usual.getvalue()
    assert usual.getvalue() == stream.getvalue()


@pytest.mark.parametrize(("text", "count"), [("72", 72), ("9" * 5000, 999999999)])
def test_columns_that_can_be_used_are(monkeypatch, text, count):
    """A number of any length."""
    monkeypatch.setenv("COLUMNS", text)

    assert count == columns_named()
