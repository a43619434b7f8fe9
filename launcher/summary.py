"""Shows why a job failed: the one user of rich.

First the root cause in one line, then a table of the ranks, then what the root cause left to read.
Texts come from workers and other nodes: nothing in them is executed, or taken for markup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console as RichConsole
from rich.console import JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..agent.environ import inherited_environment
from ..agent.failure import ChildFailedError, ProcessFailure, end_of
from ..agent.report import STACK_TITLE, JobReport, RankOutcome, RankState, RootCause
from .console import PREFIX, Console, printable
from .wording import (
    FAULT_HANDLER_TITLES,
    after,
    ending,
    fold,
    hint_about,
    missing_nodes,
    moment_of,
)

MAX_ROWS = 32
MAX_MESSAGE_CHARS = 1_000
MAX_TRACEBACK_CHARS = 20_000
MAX_TRACEBACK_LINES = 200
NARROW_COLUMNS = 72
"""Below this width, a rank takes a few lines instead of a row."""

COLUMNS = ("rank", "local", "node", "pid", "ended by", "after", "file")

_HEAD_LINES = 20
_ANY_WIDTH = 10_000
_STYLES = {RankState.FAILED: "red", RankState.STOPPED: "dim", RankState.SUCCEEDED: "green"}


def print_failure(error: ChildFailedError, console: Console, width: int | None = None) -> None:
    """Write the failure summary.

    Args:
        error: What ended the job.
        console: Where elrun speaks.
        width: Columns to use; by default those of the terminal, or of the variable COLUMNS. A
            file has no columns: there a line is as long as it is, for those who search it.
    """
    stream = console.stream
    if stream is None:
        return
    if width is None and not stream.isatty() and "COLUMNS" not in inherited_environment():
        width = _ANY_WIDTH
    screen = RichConsole(file=stream, width=width, markup=False, emoji=False, highlight=False)
    with screen.capture() as captured:
        for part in failure_summary(report_of(error), screen):
            screen.print(part, crop=False)
    lines = captured.get().splitlines()
    console.write("".join(f"{line.rstrip()}\n" for line in lines))


def failure_summary(report: JobReport, screen: RichConsole) -> Iterator[RenderableType]:
    """Return the parts of the summary of a failed job.

    Args:
        report: How it failed.
        screen: Whose width and abilities decide on the form.
    """
    rows, rest = choose_rows(report)
    yield from _headline(report)
    yield ""
    is_narrow = screen.width < NARROW_COLUMNS
    has_files = False
    if is_narrow:
        for outcome in rows:
            yield from _block(outcome, report.root)
    else:
        table = _table(rows, report.root, screen)
        has_files = len(table.columns) == len(COLUMNS)
        yield table
    for sentence in (*fold(rest), *missing_nodes(report)):
        yield _text(sentence)
    if not is_narrow and not has_files:
        yield from _files(rows)
    if report.root.traceback:
        yield ""
        yield from _last_words(report.root)


def report_of(error: ChildFailedError) -> JobReport:
    """Return the error's report, or one made of its failures where a plug-in left none."""
    if error.report is not None:
        return error.report
    rank, first = error.get_first_failure()
    outcomes = (_outcome_of(rank, failure) for rank, failure in sorted(error.failures.items()))
    root = RootCause(
        global_rank=rank,
        local_rank=first.local_rank,
        node="",
        pid=first.pid,
        exitcode=first.exitcode,
        timestamp=first.timestamp,
        message=first.summary[:MAX_MESSAGE_CHARS],
        traceback=(first.traceback or "")[-MAX_TRACEBACK_CHARS:],
        file=_file_of(first),
    )
    return JobReport(name=error.name, root=root, ranks=tuple(outcomes))


def choose_rows(report: JobReport) -> tuple[list[RankOutcome], list[RankOutcome]]:
    """Return the ranks that get a row, and the others.

    All of a small job; of a big one the failed ranks, the first of them first.
    """
    ranks = sorted(report.ranks, key=lambda each: each.global_rank)
    if len(ranks) <= MAX_ROWS:
        return ranks, []
    failed = [each for each in ranks if each.state is RankState.FAILED]
    failed.sort(key=lambda each: (each.global_rank != report.root.global_rank, _when(each)))
    shown = failed[:MAX_ROWS]
    names = {each.global_rank for each in shown}
    return shown, [each for each in ranks if each.global_rank not in names]


def _headline(report: JobReport) -> Iterator[RenderableType]:
    root = report.root
    name = os.path.basename(report.name) or "the job"
    node = f"node {root.node}, " if root.node else ""
    pid = f", pid {root.pid}" if root.pid else ""
    yield Text.assemble(
        (printable(f"{PREFIX}{name} failed: "), "bold"),
        (f"rank {root.global_rank} {end_of(root.exitcode)}", "bold red"),
        printable(f" ({node}local rank {root.local_rank}{pid}) "),
        moment_of(root.timestamp),
        overflow="fold",
    )
    if root.words:
        yield _indented(root.words, "red")
    elif hint := hint_about(root, inherited_environment()):
        yield _indented(hint)
    if root.file:
        yield _indented(f"see {root.file}")
    if report.max_restarts:
        yield _indented(f"after {report.restarts} of {report.max_restarts} restarts")


def _table(rows: Sequence[RankOutcome], root: RootCause, screen: RichConsole) -> Table:
    """Return the ranks as a table, with their files if these fit beside the rest."""
    without_files = _columns(rows, root, screen, COLUMNS[:-1])
    if not any(outcome.file for outcome in rows):
        return without_files
    whole = _columns(rows, root, screen, COLUMNS)
    needed = Measurement.get(screen, screen.options.update_width(_ANY_WIDTH), whole).maximum
    return whole if needed <= screen.width else without_files


def _columns(
    rows: Sequence[RankOutcome], root: RootCause, screen: RichConsole, titles: Sequence[str]
) -> Table:
    # Rules and boxes help on a terminal only.
    table = Table(
        box=box.SIMPLE_HEAD if screen.is_terminal else None, pad_edge=False, show_edge=False
    )
    for title in titles:
        is_number = title in ("rank", "local", "pid", "after")
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=is_number)
    for outcome in rows:
        cells = [_text(each) for each in _cells(outcome, root)]
        table.add_row(*cells[: len(titles)], style=_STYLES[outcome.state])
    return table


def _files(rows: Sequence[RankOutcome]) -> Iterator[RenderableType]:
    named = [outcome for outcome in rows if outcome.file]
    if named:
        yield ""
    for outcome in named:
        yield _text(f"rank {outcome.global_rank}: {outcome.file}")


def _cells(outcome: RankOutcome, root: RootCause) -> tuple[str, ...]:
    return (
        str(outcome.global_rank),
        str(outcome.local_rank),
        outcome.node,
        str(outcome.pid) if outcome.pid else "",
        ending(outcome, root),
        after(outcome),
        outcome.file,
    )


def _block(outcome: RankOutcome, root: RootCause) -> Iterator[RenderableType]:
    facts = [
        f"local rank {outcome.local_rank}",
        f"node {outcome.node}" if outcome.node else "",
        f"pid {outcome.pid}" if outcome.pid else "",
        after(outcome),
    ]
    yield _text(f"rank {outcome.global_rank}: {ending(outcome, root)}", _STYLES[outcome.state])
    yield _indented(", ".join(filter(None, facts)))
    if outcome.file:
        yield _indented(outcome.file)


def _when(outcome: RankOutcome) -> float:
    return float("inf") if outcome.after_s is None else outcome.after_s


def _last_words(root: RootCause) -> Iterator[RenderableType]:
    title = "last lines on standard error"
    if STACK_TITLE in root.traceback:
        title = "traceback"
    elif root.traceback.startswith(FAULT_HANDLER_TITLES):
        title = "stack"
    lines = root.traceback.strip("\n").split("\n")
    left_out = len(lines) - MAX_TRACEBACK_LINES
    if left_out > 0:
        tail = lines[_HEAD_LINES + left_out :]
        lines = [*lines[:_HEAD_LINES], f"... {left_out} lines are left out here ...", *tail]
    yield _text(f"{title} of rank {root.global_rank}:", "bold")
    # Left to the terminal to wrap: a line that was cut can't be searched for, or clicked.
    yield Text(printable("\n".join(lines)), no_wrap=True, overflow="ignore")


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="fold")


def _indented(text: str, style: str = "") -> RenderableType:
    return Padding(_text(text, style), (0, 0, 0, 2))


def _outcome_of(rank: int, failure: ProcessFailure) -> RankOutcome:
    return RankOutcome(
        global_rank=rank,
        local_rank=failure.local_rank,
        node="",
        pid=failure.pid,
        exitcode=failure.exitcode,
        state=RankState.FAILED,
        file=_file_of(failure),
    )


def _file_of(failure: ProcessFailure) -> str:
    return "" if failure.error_file == "<N/A>" else failure.error_file
