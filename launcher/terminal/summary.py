"""Shows why a job failed: the one user of rich.

First the root cause in one line, then a table of the ranks, then what the root cause left to read.
Texts come from workers and other nodes: nothing in them is executed, or taken for markup.

No newline is put into a traceback, a path or a message, however narrow the terminal is: it wraps
them itself, and they can still be clicked, copied and searched for. Only the first line is broken,
between its parts, and sentences of elrun's own, between words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console as RichConsole
from rich.console import JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ...agent.elastic.failed_attempt import MAX_MESSAGE_CHARS
from ...agent.failures.chain import causes_in
from ...agent.failures.failure import NOT_AVAILABLE, ChildFailedError, ProcessFailure, end_of
from ...agent.failures.report import STACK_TITLE, JobReport, RankOutcome, RankState, RootCause
from ...agent.failures.shortening import shortened_traceback
from ...agent.system.environ import inherited_environment
from .console import PREFIX, Console, printable
from .phrases import (
    DEPARTURE_TITLE,
    FAULT_HANDLER_TITLES,
    KERNEL_STACK_BEGINNING,
    after,
    agents_of,
    ending,
    fold,
    hint_about,
    is_hung,
    lost_peers,
    missing_nodes,
    moment_of,
    other_failures,
)
from .screen import columns_named, screen_on

MAX_ROWS = 32
COLUMNS = ("rank", "local", "node", "pid", "ended by", "after", "file")

_ANY_WIDTH = 10_000
_STYLES = {RankState.FAILED: "red", RankState.STOPPED: "dim", RankState.SUCCEEDED: "green"}


def print_failure(error: ChildFailedError, console: Console, width: int | None = None) -> None:
    """Write the failure summary.

    Args:
        console: Where elrun speaks.
        width: Columns to use; by default those of the terminal, or of the variable COLUMNS. A
            file has no columns: there a line is as long as it is, for those who search it.
    """
    stream = console.stream
    if stream is None:
        return
    if width is None and not stream.isatty() and not columns_named():
        width = _ANY_WIDTH
    is_plain = console.json_lines is not None
    if is_plain:
        width = _ANY_WIDTH
    colours = None if is_plain else "auto"
    screen = screen_on(stream, width, markup=False, emoji=False, color_system=colours)
    with screen.capture() as captured:
        for part in failure_summary(report_of(error), screen):
            is_whole = isinstance(part, Text) and part.no_wrap
            screen.print(part, crop=False, soft_wrap=bool(is_whole))
    lines = captured.get().splitlines()
    if stream.isatty() and not is_plain:  # a progress bar may have left the cursor anywhere
        lines.insert(0, "")
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    console.write(text.removeprefix(PREFIX) if is_plain else text)


def failure_summary(report: JobReport, screen: RichConsole) -> Iterator[RenderableType]:
    """Return the parts of the summary of a failed job.

    Args:
        report: How it failed.
        screen: Whose width and abilities decide on the form.
    """
    agents = agents_of(sorted(report.ranks, key=lambda each: each.global_rank))
    ranks = (each._replace(node=agents[each.global_rank]) for each in report.ranks)
    report = report._replace(ranks=tuple(ranks))
    rows, rest = choose_rows(report)
    yield from _headline(report, screen.width)
    if not rows and not rest:
        return
    yield ""
    table = _widest_table_that_fits(rows, report.root, screen)
    if table is None:
        for outcome in rows:
            yield from _block(outcome, report.root)
    else:
        yield table
    for sentence in (*fold(rest), *missing_nodes(report)):
        yield Text(printable(sentence))
    for line in other_failures(report):
        yield _whole(line)
    if table is not None and len(table.columns) < len(COLUMNS):
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
        says_why=first.says_why,
        traceback=shortened_traceback(first.traceback or "", _file_of(first)),
        file=_file_of(first),
    )
    return JobReport(name=error.name, root=root, ranks=tuple(outcomes))


def choose_rows(report: JobReport) -> tuple[list[RankOutcome], list[RankOutcome]]:
    """Return the ranks that get a row, and the others in rank order.

    All of a small job; of a big one the failed ranks. The root cause comes first, consequences come
    after the other failures, and ranks that did not fail come last.
    """
    workers = (each for each in report.ranks if each.global_rank >= 0)
    ranks = sorted(workers, key=lambda each: each.global_rank)
    failed = [each for each in ranks if _has_failed(each, report.root)]
    failed.sort(
        key=lambda each: (
            each.global_rank != report.root.global_rank,
            each.is_consequence,
            _when(each),
        )
    )
    if len(ranks) <= MAX_ROWS:
        return [*failed, *(each for each in ranks if not _has_failed(each, report.root))], []
    shown = failed[:MAX_ROWS]
    names = {each.global_rank for each in shown}
    return shown, [each for each in ranks if each.global_rank not in names]


def _headline(report: JobReport, width: int) -> Iterator[RenderableType]:
    root = report.root
    name = os.path.basename(report.name) or "the job"
    node = f"node {root.node}, " if root.node else ""
    pid = f", pid {root.pid}" if root.pid else ""
    if root.global_rank < 0:  # it was no worker
        what: tuple[Text, ...] = (_whole(root.words or end_of(root.exitcode), "bold red"),)
        words, hint = "", ""
    else:
        what = (
            _whole(f"rank {root.global_rank} {root.end}", "bold red"),
            _whole(f"({node}local rank {root.local_rank}{pid})"),
        )
        words, hint = root.words, hint_about(root, name, inherited_environment())
    parts = (_whole(f"{PREFIX}{name} failed:", "bold"), *what, _whole(moment_of(root.timestamp)))
    yield from _filled(parts, width)
    if words:
        yield _whole(words, "red", indent=2)
        for cause in causes_in(root.traceback):
            link = "caused by" if cause.is_direct else "while handling"
            between = f" ({cause.left_out} more between)" if cause.left_out else ""
            yield _whole(f"{link} {cause.words}{between}", indent=2)
    if root.kernel_words:
        yield _whole(root.kernel_words, indent=2)
    elif hint and not words:
        yield _whole(hint, indent=2)
    if peers := lost_peers(report):
        yield _whole(peers, indent=2)
    if root.file:
        is_here = root.node in ("", os.uname().nodename)
        yield _whole(f"see {root.file}{'' if is_here else f' on {root.node}'}", indent=2)
    if report.max_restarts:
        yield _whole(f"after {report.restarts} of {report.max_restarts} restarts", indent=2)


def _filled(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """Put the parts into lines, each with as many as fit; those after the first are indented."""
    line = Text(no_wrap=True, overflow="ignore")
    for part in parts:
        if line and line.cell_len + 1 + part.cell_len > width:
            yield line
            line = Text("  ", no_wrap=True, overflow="ignore")
        elif line:
            line.append(" ")
        line.append_text(part)
    yield line


def _widest_table_that_fits(
    rows: Sequence[RankOutcome], root: RootCause, screen: RichConsole
) -> Table | None:
    """Return the ranks as a table, with their files if these fit; None: no table fits."""
    has_files = any(outcome.file for outcome in rows)
    for titles in (COLUMNS, COLUMNS[:-1]) if has_files else (COLUMNS[:-1],):
        table = _columns(rows, root, screen, titles)
        any_width = screen.options.update_width(_ANY_WIDTH)
        if Measurement.get(screen, any_width, table).maximum <= screen.width:
            return table
    return None


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
        table.add_column(title, justify=justify, overflow="fold", no_wrap=True)
    for outcome in rows:
        cells = [Text(printable(each)) for each in _cells(outcome, root)]
        table.add_row(*cells[: len(titles)], style=_style_of(outcome, root))
    return table


def _files(rows: Sequence[RankOutcome]) -> Iterator[RenderableType]:
    named = [outcome for outcome in rows if outcome.file]
    if named:
        yield ""
    for outcome in named:
        yield _whole(f"rank {outcome.global_rank}: {outcome.file}")


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
    yield _whole(f"rank {outcome.global_rank}: {ending(outcome, root)}", _style_of(outcome, root))
    yield _whole(", ".join(filter(None, facts)), indent=2)
    if outcome.file:
        yield _whole(outcome.file, indent=2)


def _has_failed(outcome: RankOutcome, root: RootCause) -> bool:
    """Return whether a rank is not only stopped; elrun has stopped also the one that hung."""
    return outcome.state is RankState.FAILED or is_hung(outcome, root)


def _style_of(outcome: RankOutcome, root: RootCause) -> str:
    return _STYLES[RankState.FAILED if _has_failed(outcome, root) else outcome.state]


def _when(outcome: RankOutcome) -> float:
    return float("inf") if outcome.after_s is None else outcome.after_s


def _last_words(root: RootCause) -> Iterator[RenderableType]:
    title = "last lines"
    if STACK_TITLE in root.traceback:
        title = "traceback"
    elif root.traceback.startswith((*FAULT_HANDLER_TITLES, DEPARTURE_TITLE)):
        title = "stack"
    elif root.traceback.startswith(KERNEL_STACK_BEGINNING):
        title = "stack in the kernel"
    yield _whole(f"{title} of rank {root.global_rank}:", "bold")
    yield _whole(shortened_traceback(root.traceback, root.file))


def _whole(text: str, style: str = "", *, indent: int = 0) -> Text:
    """Return a text that the terminal may wrap, and elrun does not."""
    shown = Text(" " * indent, no_wrap=True, overflow="ignore")
    return shown.append(printable(text).replace("\n", "\n" + " " * indent), style)


def _outcome_of(rank: int, failure: ProcessFailure) -> RankOutcome:
    return RankOutcome(
        global_rank=rank,
        local_rank=failure.local_rank,
        node="",
        pid=failure.pid,
        exitcode=failure.exitcode,
        state=RankState.FAILED,
        file=_file_of(failure),
        words="" if failure.error_file == NOT_AVAILABLE else failure.summary[:MAX_MESSAGE_CHARS],
    )


def _file_of(failure: ProcessFailure) -> str:
    return "" if failure.error_file == NOT_AVAILABLE else failure.error_file
