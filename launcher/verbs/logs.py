"""``elrun logs [RUN]``: what the ranks of a job have printed, from its log files or kept ends."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, NamedTuple

import click

from ..report.choice import choose_job
from ..report.refusal import UNCLEAR, VerbRefusal
from .log_sources import KeptOutput, LogFile, Sources
from .merging import in_order_of_time
from .status import agents_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..report.runs import Run
    from .asking import Agent

_LOOK_S = 0.2
_STANDARD_OUTPUT = 1


class _Choice(NamedTuple):
    """Which lines are wanted.

    Args:
        ranks: Of which ranks; empty: of all.
        pattern: What is to be found in them.
    """

    ranks: frozenset[int]
    pattern: re.Pattern[str]


class _Enough(Exception):
    """The reader of standard output has ended, as `head` does once it has enough."""


@click.command("logs")
@click.argument("run", required=False)
@click.option("--rank", "ranks", type=click.IntRange(0), multiple=True, help="Only this rank.")
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
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
    ranks: tuple[int, ...],
    pattern: str | None,
    *,
    follow: bool,
    merge: bool,
) -> int:
    """Show what the ranks of a job of yours on this host have printed, attempt by attempt.

    What has log files (--log-dir with --tee or --redirects) is shown whole; of the rest, what elrun
    has carried: the last 64 KiB of each rank.

    RUN is a run id (--rdzv-id) or how one begins, or the process id of an elrun. Without RUN, the
    only job that runs is meant.
    """
    try:
        wanted = re.compile(pattern or "")
    except re.error as error:
        raise VerbRefusal(f"--grep {pattern!r}: {error}", UNCLEAR) from error
    runs = choose_job(variables, run, "logs")
    agents, _ = agents_of(runs)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        choice = _Choice(frozenset(ranks), wanted)
        has_any = _show(Sources(runs, agents), agents, choice, follow=follow, merge=merge)
    except _Enough:
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if not has_any:
        raise VerbRefusal(_nothing(runs[0], ranks))
    return 0


def _nothing(run: Run, ranks: tuple[int, ...]) -> str:
    of = f" of rank {', '.join(map(str, ranks))}" if ranks else ""
    return (
        f"nothing that was printed{of} is kept of {run.label}: it went straight to its terminal or "
        "file; --tee 3 with --log-dir keeps it"
    )


def _show(
    sources: Sources, agents: list[Agent], choice: _Choice, *, follow: bool, merge: bool
) -> bool:
    """Show what there is, and what follows; return whether there was anything."""
    last_title, is_first, has_any = "", True, False
    while True:
        living = [agent for agent in agents if not agent.wait_for_end(0)]
        is_last = not (living and follow)
        news = []
        for source in sources.look():
            if choice.ranks and source.rank not in choice.ranks:
                continue
            lines = list(source.read(is_last=is_last))
            has_any = has_any or bool(lines)
            news.append((source, [line for line in lines if choice.pattern.search(line)]))
        if merge:
            in_order = in_order_of_time(news) if is_first else _as_they_came(news)
            _write("".join(f"[{source.rank}]: {line}\n" for source, line in in_order))
        else:
            for source, lines in news:
                if lines and source.title != last_title:
                    _write(("\n" if last_title else "") + f"==> {source.title} <==\n")
                    last_title = source.title
                _write("".join(f"{line}\n" for line in lines))
        is_first = False
        if is_last:
            return has_any
        living[0].wait_for_end(_LOOK_S)


def _as_they_came(
    news: list[tuple[LogFile | KeptOutput, list[str]]],
) -> Iterator[tuple[LogFile | KeptOutput, str]]:
    for source, lines in news:
        for line in lines:
            yield source, line


def _write(text: str) -> None:
    """Write to standard output as it is: these are the workers' own words."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(_STANDARD_OUTPUT, data) :]
    except BrokenPipeError:
        raise _Enough from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error
