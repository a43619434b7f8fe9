"""``elrun logs [RUN]``: what the ranks of a job have printed, from its log files or kept ends."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from ...agent.system.whole_writes import write_all
from ..report.choice import choose_job, unusable_report
from ..report.refusal import UNCLEAR, VerbRefusal
from ..report.words import counted
from ..terminal.console import Console
from .front import SETTINGS
from .log_lines import has_end
from .log_sources import Sources
from .merging import in_order_of_time
from .ranks import WantedRanks, known_ranks, rank_option
from .standing import agents_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..report.runs import Run
    from .asking import Agent
    from .log_sources import KeptOutput, LogFile

    _Source = LogFile | KeptOutput

_LOOK_S = 0.2
_STANDARD_OUTPUT = 1
_PIECE_CHARS = 1 << 16


class _Choice(NamedTuple):
    """Which lines are wanted.

    Args:
        pattern: What is to be found in them; None: all are wanted.
    """

    ranks: WantedRanks
    pattern: re.Pattern[str] | None


class _Enough(Exception):
    """The reader of standard output has ended, as `head` does once it has enough."""


@click.command("logs", context_settings=SETTINGS)
@click.argument("run", required=False)
@rank_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--grep", "pattern", metavar="RE", help="Only lines in which RE is found.")
@click.option(
    "--merge",
    is_flag=True,
    help="All ranks in one stream, each line with its rank, by the times that lines begin with.",
)
@click.pass_obj
def command(
    variables: Mapping[str, str],
    run: str | None,
    ranks: tuple[tuple[range, ...], ...],
    pattern: str | None,
    *,
    follow: bool,
    merge: bool,
) -> int:
    """Show what the ranks of a job of yours on this host have printed, attempt by attempt.

    What has log files (--log-dir with --tee or --redirects) is shown whole; of the rest, what elrun
    has carried: the last 64 KiB of each rank.

    RUN is a run id (--rdzv-id) or how one begins, the name or path of a script, or the process id
    of an elrun. Without RUN, the only job that runs is meant.
    """
    try:
        wanted = re.compile(pattern) if pattern else None
    except re.error as error:
        raise VerbRefusal(f"--grep {pattern!r}: {error}", UNCLEAR) from error
    runs = choose_job(variables, run, "logs")
    agents, problems = agents_of(runs)
    sources = Sources(runs, agents)
    if sys.stdout is None:  # closed: its number is that of another file by now
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        choice = _Choice(WantedRanks(ranks), wanted)
        has_any = _show(sources, agents, choice, follow=follow, merge=merge)
    except _Enough:
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    absent = _absent(runs[0], choice.ranks, sources.known_ranks())
    files = sources.files(choice.ranks)
    faults = [each for each in (absent, _unreadable(files)) if each]
    if not has_any:
        reasons = [*problems, *filter(None, [sources.problem, unusable_report(runs[0])]), *faults]
        raise VerbRefusal(reasons[0] if reasons else _nothing(runs[0], choice.ranks, files))
    for fault in faults:
        Console().say(fault)
    return 0


def _absent(run: Run, wanted: WantedRanks, known: set[int]) -> str:
    """Return which of the ranks that are wanted are not on this host; "" if all are."""
    if not known or not (absent := wanted.absent_from(known)):
        return ""
    return f"{run.label} has no {absent} on this host: it has {known_ranks(known)} here"


def _unreadable(files: Sequence[LogFile]) -> str:
    """Return which log files can't be read, and why; "" if all can."""
    unreadable = [file for file in files if file.fault]
    if not unreadable:
        return ""
    more = counted(len(unreadable) - 1, "other log file")
    others = f"; nor can {more}" if len(unreadable) > 1 else ""
    return f"log file {unreadable[0].name} can't be read: {unreadable[0].fault}{others}"


def _nothing(run: Run, wanted: WantedRanks, files: Sequence[LogFile]) -> str:
    named = wanted.absent_from(())
    kinds = {file.kind for file in files}
    if kinds == {"stdout", "stderr"}:
        verb = "have" if named.startswith("ranks") else "has"
        what = f"{named} {verb} printed nothing" if named else "no rank has printed anything"
        return f"{run.label}: {what}"
    of = f" of {named}" if named else ""
    only = f", and the log files of {kinds.pop()} are empty" if kinds else ""
    return (
        f"nothing that was printed{of} is kept of {run.label}{only}: what elrun does not carry "
        "goes straight to its terminal or file; --tee 3 with --log-dir keeps it"
    )


def _show(
    sources: Sources, agents: list[Agent], choice: _Choice, *, follow: bool, merge: bool
) -> bool:
    """Show what there is, and what follows; return whether there was anything."""
    is_first, shown = True, _Shown(choice)
    while True:
        living = [agent for agent in agents if not agent.wait_for_end(0)]
        is_last = not (living and follow)
        news = [
            (source, shown.wanted(source, source.read(is_last=is_last)))
            for source in sources.look()
            if source.rank in choice.ranks
        ]
        if merge:
            in_order = in_order_of_time(news) if is_first else _as_they_came(news)
            _write(shown.marked(in_order))
        else:
            for source, lines in news:
                _write(shown.titled(source, lines))
        is_first = False
        if is_last:
            return shown.has_any
        living[0].wait_for_end(_LOOK_S)


class _Shown:
    """Chooses lines as they are read, and says of which source those are that are written.

    A line that has been written in part goes on where it stands, or, if another source has been
    written meanwhile, on a line of its own.

    Args:
        choice: Which lines are wanted.

    Attributes:
        has_any: Whether there was any line, wanted or not.
    """

    def __init__(self, choice: _Choice) -> None:
        self._pattern = choice.pattern
        self._unwanted: dict[_Source, str] = {}
        self._begun: set[_Source] = set()
        self._last: _Source | None = None
        self._last_end = "\n"
        self.has_any = False

    def wanted(self, source: _Source, lines: Iterable[str]) -> Iterator[str]:
        """Yield the lines that are wanted: the beginning of one once it is known to be."""
        for piece in lines:
            self.has_any = True
            line = piece
            if self._pattern is not None and source not in self._begun:
                line = self._unwanted.pop(source, "") + piece
                if not self._pattern.search(line.rstrip("\r\n")):
                    if not has_end(line):
                        self._unwanted[source] = line[-_PIECE_CHARS:]
                    continue
            yield line

    def titled(self, source: _Source, lines: Iterable[str]) -> Iterator[str]:
        """Yield lines as they are written, under their title if others were shown last."""
        for line in lines:
            is_same, gap = source is self._last, "\n" if self._last else ""
            yield self._placed(source, line, "" if is_same else f"{gap}==> {source.title} <==\n")

    def marked(self, lines: Iterable[tuple[_Source, str]]) -> Iterator[str]:
        """Yield lines as they are written, each with its rank."""
        for source, line in lines:
            if line != "\r" or source in self._begun:  # else a progress bar has only begun
                yield self._placed(source, line, f"[{source.rank}]: ")

    def _placed(self, source: _Source, line: str, mark: str) -> str:
        """Return a line as it is written: after its mark, unless it goes on where it stands."""
        is_same, is_rest = source is self._last, source in self._begun
        (self._begun.discard if has_end(line) else self._begun.add)(source)
        if is_rest and not is_same and not line.strip("\r\n"):  # the other's line has ended it
            return ""
        is_free = self._last_end == "\n" or (is_same and self._last_end == "\r")
        self._last, self._last_end = source, line[-1]
        if is_rest and is_same:
            return line
        return f"{mark}{line}" if is_free else f"\n{mark}{line}"


def _as_they_came(
    news: Iterable[tuple[_Source, Iterable[str]]],
) -> Iterator[tuple[_Source, str]]:
    for source, lines in news:
        for line in lines:
            yield source, line


def _write(texts: Iterable[str]) -> None:
    """Write to standard output as it is, piece by piece: these are the workers' own words."""
    piece, size = [], 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= _PIECE_CHARS:
            _write_piece("".join(piece))
            piece, size = [], 0
    _write_piece("".join(piece))


def _write_piece(text: str) -> None:
    try:
        write_all(_STANDARD_OUTPUT, text.encode("utf-8", "surrogateescape"))
    except BrokenPipeError:
        raise _Enough from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error
