"""How the failure summary is laid out: tables, widths, folded ranks and colours."""

import io
import re

import pytest
from elrun.agent.failures.report import RankState
from elrun.launcher.terminal.phrases import moment_of
from summary_kit import STACK, failed, outcome, report, summary

pytestmark = pytest.mark.usefixtures("utc")

EVIL = "\x1b]0;owned\x07\r[bold]\u202e"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_shows_every_rank():
    """Ranks, node, pid, end, time since the first failure, file."""
    text = summary(report(outcome(0, file="/l/0"), failed(1, file="/l/1")), width=80)

    table = text.split("\n\n")[1]
    assert [
        ["rank", "local", "node", "pid", "ended by", "after", "file"],
        ["1", "1", "gpu0", "4001", "exit code 1 (first)", "+0.00 s", "/l/1"],
        ["0", "0", "gpu0", "4000", "stopped by elrun (SIGTERM)", "+0.12 s", "/l/0"],
    ] == [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_the_summary_begins_a_line_of_a_terminal():
    """A progress bar that a killed worker leaves has no end, and elrun can't see where it ends."""
    texts = [summary(report(failed(0)), 80, stream()) for stream in (Terminal, io.StringIO)]

    assert [True, False] == [text.startswith("\n") for text in texts]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_sentences_respect_the_width(width):
    """What has neither a path nor a message nor a traceback in it is broken between words."""
    ranks = [outcome(r) if r % 2 else outcome(r, RankState.SUCCEEDED, 0) for r in range(1000)]

    assert max(len(line) for line in summary(report(*ranks), width).splitlines()) <= width


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_paths_messages_and_tracebacks_are_never_broken(stream, width):
    """A path that a newline stands in can be neither clicked nor copied."""
    paths = [f"/scratch/{'d' * 60}/my shard {rank}/error.json" for rank in range(4)]
    message = f"OSError: cannot read {paths[2]} {'and more words ' * 10}at all"
    root = {"message": message, "traceback": f"{STACK}  File {paths[3]!r}\n", "file": paths[1]}
    ranks = (outcome(rank, node="n" * 50, file=paths[rank]) for rank in range(4))

    text = summary(report(*ranks, root=root), width, stream())

    lines = [line.strip() for line in re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()]
    assert {message, f"see {paths[1]} on gpu0", f"File {paths[3]!r}"} <= set(lines)
    assert 4 == sum(any(line.endswith(path) for line in lines[5:]) for path in paths)


def test_a_first_line_that_does_not_fit_is_broken_between_its_parts():
    """Its date is copied in one go."""
    lines = summary(report(failed(1)), width=80).splitlines()

    assert [
        "elrun: train.py failed: rank 1 exited with code 1",
        f"  (node gpu0, local rank 1, pid 4001) {moment_of(1790000000)}",
    ] == lines[:2]


def test_a_part_that_is_wider_than_the_terminal_stays_whole():
    """A node's name is as long as it is."""
    name = "n" * 50
    lines = summary(report(failed(1), root={"node": name}), width=40).splitlines()

    assert [
        "elrun: train.py failed:",
        "  rank 1 exited with code 1",
        f"  (node {name}, local rank 1, pid 4001)",
        f"  {moment_of(1790000000)}",
    ] == lines[:4]


def test_ranks_that_fit_into_no_table_take_a_few_lines_each():
    """A cell is never broken either."""
    lines = summary(report(outcome(0, node="n" * 50, file="/l/0")), width=80).splitlines()

    assert [
        "rank 0: stopped by elrun (SIGTERM)",
        f"  local rank 0, node {'n' * 50}, pid 4000, +0.12 s",
        "  /l/0",
    ] == lines[-3:]


def test_a_very_long_traceback_loses_its_middle():
    """Where it began and where it ended stay."""
    stack = "\n".join(f"line {number}" for number in range(5000))

    text = summary(report(failed(1), root={"traceback": stack}))

    assert len(text.splitlines()) < 250
    assert "line 0\n" in text
    assert "line 4999\n" in text
    assert "... 4800 lines are left out here ..." in text


def test_a_big_job_is_folded():
    """1,000 ranks: those that failed, the first one first, and a line for the others."""
    ranks = [outcome(rank) for rank in range(1000)]
    ranks[1] = failed(1)
    ranks[998] = failed(998, -9, 0.5)
    ranks[7] = failed(7, 1, 0.9)

    lines = summary(report(*ranks)).splitlines()

    shown = [line.split()[0] for line in lines if "exit code" in line or "SIGKILL" in line]
    assert ["1", "998", "7"] == shown[-3:]
    assert "ranks 0, 2-6, 8-997, 999: stopped by elrun" in lines
    assert len(lines) < 20


def test_a_job_whose_ranks_all_failed_is_folded():
    """By how they failed."""
    ranks = [failed(rank, 1 if rank < 900 else -9, rank / 1000) for rank in range(1000)]

    lines = summary(report(*ranks)).splitlines()

    assert "ranks 32-899: exit code 1" in lines
    assert "ranks 900-999: SIGKILL" in lines
    assert len(lines) < 60


def test_ranks_in_very_many_pieces_stay_a_few_lines():
    """The first pieces, and how many more there are."""
    ranks = [outcome(r) if r % 2 else outcome(r, RankState.SUCCEEDED, 0) for r in range(1000)]

    text = summary(report(*ranks))

    assert "and 460 more spans: stopped by elrun" in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("width", [40, 120])
def test_what_others_wrote_is_shown_and_not_executed(width):
    """Names, messages, paths and tracebacks come from workers and other nodes."""
    job = report(
        failed(1, node=EVIL, file=EVIL),
        root={"node": EVIL, "message": EVIL, "traceback": EVIL, "file": EVIL},
    )

    text = summary(job, width)

    assert all(each.isprintable() for each in text.splitlines())
    assert r"\x1b]0;owned\x07\r[bold]\u202e" in text


def test_there_are_no_colours_without_a_terminal():
    """Nor rules and boxes."""
    text = summary(report(failed(1), root={"traceback": STACK}))

    assert text.isascii()
    assert "\x1b" not in text


def test_there_are_colours_on_a_terminal(monkeypatch):
    """Red is what failed."""
    monkeypatch.setenv("TERM", "xterm-256color")

    assert "\x1b[1;31m" in summary(report(failed(1)), stream=Terminal())


def test_no_color_is_respected(monkeypatch):
    """Bold is no colour."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")

    assert "31m" not in summary(report(failed(1)), stream=Terminal())
