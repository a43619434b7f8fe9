"""Shows the state of a job in plain columns, for pipes and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..report.records import seconds_of
from ..report.words import as_clock, as_duration, as_size, spans
from ..terminal.console import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .view import Node, Overview, Rank

NODE_HEAD = ("NODE", "HOST", "STATE", "SIGN OF LIFE")
RANK_HEAD = (
    *("RANK", "HOST", "PID", "STATE", "CPU", "MEMORY", "GPU", "GPU MEMORY", "PRINTED"),
    "LAST LINE",
)

_ENDED = ("succeeded", "failed", "killed")
_SILENT_S = 5.0
_SILENT_TIMES = 5
"""A rank is silent if it has printed nothing for so long, and so many times as long as most."""

_ALL_SILENT_S = 60.0
_MOST_SILENT = 0.25
"""If more of the ranks are silent than this share, most likely only the others print."""

_WHERE = "`elrun stacks` shows where each rank is"


def as_text(overview: Overview) -> str:
    """Return the state of a job as lines."""
    lines = [*headlines(overview.facts), *silences(overview)]
    for rows in tables(overview.nodes, overview.ranks):
        lines += ["", *columns(rows)]
    lines += [f"note: {note}" for note in overview.notes]
    return "".join(printable(line).replace("\n", " ") + "\n" for line in lines)


def tables(nodes: Sequence[Node], ranks: Sequence[Rank]) -> Iterator[list[tuple[str, ...]]]:
    """Yield the tables of nodes and ranks, row by row, without columns of which nothing is known.

    Args:
        nodes: The nodes; none: there is no such table.
    """
    found = ([NODE_HEAD, *map(node_cells, nodes)], [RANK_HEAD, *map(rank_cells, ranks)])
    for head, *rows in found:
        if rows:
            known = [at for at in range(len(head)) if any(row[at] != "-" for row in rows)]
            yield [tuple(row[at] for at in known) for row in (head, *rows)]


def silences(overview: Overview) -> Iterator[str]:
    """Yield which ranks have printed nothing for long, if the others have; or that none has."""
    if not overview.facts["is_running"] or overview.facts["state"] != "running":
        return
    silent_s = {
        each.rank: each.silent_s
        for each in overview.ranks
        if each.silent_s is not None and not each.state.startswith(_ENDED)
    }
    if not silent_s:
        return
    in_order = sorted(silent_s.values())
    usual_s = in_order[(len(in_order) - 1) // 2]
    least_s = max(_SILENT_S, _SILENT_TIMES * usual_s)
    odd = sorted(rank for rank, seconds in silent_s.items() if seconds >= least_s)
    if 0 < len(odd) <= _MOST_SILENT * len(silent_s):
        most_s = max(seconds for rank, seconds in silent_s.items() if rank not in odd)
        verb, noun = ("has", "rank") if len(odd) == 1 else ("have", "ranks")
        for_s = as_duration(min(silent_s[rank] for rank in odd))
        others = f"the others for at most {as_duration(most_s)}"
        yield f"{noun} {spans(odd)} {verb} printed nothing for {for_s}, {others}: {_WHERE}"
    elif in_order[0] >= _ALL_SILENT_S:
        yield f"no rank has printed anything for {as_duration(in_order[0])}: {_WHERE}"


def headlines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be said of the job as a whole."""
    name = f" ({facts['name']})" if facts.get("name") else ""
    yield f"run {facts['run_id']}{name}: {state_of(facts)}"
    parts = []
    if facts.get("round") is not None:
        parts.append(f"round {facts['round']}")
    for key, noun in (("group_world_size", "node"), ("world_size", "rank")):
        if (count := facts.get(key)) is not None and count >= 0:
            parts.append(f"{count} {noun}{'' if count == 1 else 's'}")
    restarts = facts["restarts"]
    if restarts["spent"] is not None:
        parts.append(f"restarts: {restarts['spent']} spent, {restarts['left']} left")
    if parts:
        yield "; ".join(parts)
    if facts.get("decision"):
        decision = facts["decision"]
        yield f"last decision, {ago(decision['ago_s'])}: {decision['text']}"
    if facts.get("reason"):
        yield f"reason: {facts['reason']}"
    if facts.get("report"):
        yield f"report: {facts['report']}"


def state_of(facts: Mapping[str, Any]) -> str:
    """Return the job's state in words."""
    if facts["is_running"]:
        since = "" if facts["since_s"] is None else f" for {as_duration(facts['since_s'])}"
        return f"{facts['state']}{since}, started {ago(facts['runs_for_s'])}"
    code = "" if facts["exit_code"] is None else f", exit code {facts['exit_code']}"
    when = f", ended {as_clock(seconds_of(facts['ended_at']))} UTC" if facts["ended_at"] else ""
    return f"{facts['state']}{code}{when}"


def node_cells(node: Node) -> tuple[str, ...]:
    """Return the cells of a node's row."""
    rank = "-" if node.group_rank is None else str(node.group_rank)
    sign = "-" if node.sign_of_life_s is None else ago(node.sign_of_life_s)
    return rank, node.host, node.state or "-", sign


def rank_cells(rank: Rank) -> tuple[str, ...]:
    """Return the cells of a rank's row."""
    return (
        str(rank.rank),
        rank.node,
        "-" if rank.pid is None else str(rank.pid),
        rank.state,
        "-" if rank.cpu_percent is None else f"{rank.cpu_percent:.0f}%",
        "-" if rank.memory_bytes is None else as_size(rank.memory_bytes),
        "-" if rank.gpu_percent is None else f"{rank.gpu_percent}%",
        "-" if rank.gpu_memory_bytes is None else as_size(rank.gpu_memory_bytes),
        "-" if rank.silent_s is None else ago(rank.silent_s),
        rank.last_line or "-",
    )


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines, whose cells stand below each other."""
    rows = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def ago(seconds: float) -> str:
    """Return how long ago something was."""
    return "now" if seconds < 1 else f"{as_duration(seconds)} ago"
