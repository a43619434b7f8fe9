"""What `elrun status` shows on a terminal, wide or narrow."""

from io import StringIO

import pytest
from elrun.launcher.terminal.console import Console
from elrun.launcher.verbs.status_table import show
from elrun.launcher.verbs.view import Node, Overview, Rank
from rich.cells import cell_len

FACTS = {
    "run_id": "job7",
    "is_running": True,
    "state": "running",
    "since_s": 5.0,
    "runs_for_s": 6.0,
    "restarts": {"spent": None},
}
LONG = "loss 0.25 " * 40


def shown(monkeypatch, columns, last_line, host="node1"):
    """Return the lines that a terminal of so many columns shows of one rank."""
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = StringIO()
    rank = Rank(12, host, 4711, "sleeping", 98.0, 3 << 30, 2.0, last_line)
    show(Overview(FACTS, [Node(0, host, "running", 0.0)], [rank]), Console(stream))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
@pytest.mark.parametrize(
    ("last_line", "begin"), [(LONG, "loss 0.25"), ("日本" * 200, "日本日本日"), ("short", "short")]
)
def test_a_long_last_line_hides_neither_the_rank_nor_its_state(
    monkeypatch, columns, last_line, begin
):
    """The line is cut, and no line is wider than the terminal."""
    *_, head, row = shown(monkeypatch, columns, last_line)

    assert ("12", True, True) == (row.split()[0], "sleeping" in row, begin in row)
    assert max(map(cell_len, (head, row))) <= columns


def test_what_a_narrow_terminal_has_no_room_for_is_left_out(monkeypatch):
    """The process id and the host are the last to go."""
    *_, narrow, _ = shown(monkeypatch, 60, LONG)
    *_, narrower, _ = shown(monkeypatch, 40, LONG)

    assert ["RANK", "HOST", "PID", "STATE", "PRINTED", "LAST", "LINE"] == narrow.split()
    assert ["RANK", "STATE", "LAST", "LINE"] == narrower.split()


def test_a_wide_terminal_shows_every_column(monkeypatch):
    """As a pipe does."""
    *_, head, _ = shown(monkeypatch, 120, LONG)

    assert [
        "RANK",
        "HOST",
        "PID",
        "STATE",
        "CPU",
        "MEMORY",
        "PRINTED",
        "LAST",
        "LINE",
    ] == head.split()


def test_the_host_s_name_is_whole_where_it_is_shown(monkeypatch):
    """However long it is."""
    host = "ip-10-0-0-1.us-west-2.compute.internal"

    *_, row = shown(monkeypatch, 80, LONG, host)

    assert host in row
