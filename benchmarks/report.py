"""Turns samples into tables for people and a file for programs."""

import json
import os
import platform
import re
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from rows import Figure, Row, Samples

COLUMNS = ("elrun", "torchrun", "floor", "preloaded", "auto")
HEADER = """\
| # | work | elrun | torchrun | floor | `--preload torch` | `auto` | torchrun / elrun | goal |
|---|---|---:|---:|---:|---:|---:|---:|---|"""
ROUNDS = {  # first words of the rows, and launcher, by the column's title
    "elrun, memory": ("P6", "memory"),
    "elrun, c10d": ("P6", "elrun"),
    "elrun, etcd-v3": ("P6 etcd-v3", "elrun"),
    "torchrun, c10d": ("P6", "torchrun"),
}


def line_of(row: Row, samples: Samples) -> str:
    """Return the row of the first table."""
    ours, theirs = (typical(row, samples.get(name, ())) for name in ("elrun", "torchrun"))
    ratio = f"{theirs / ours:.1f}" if ours and theirs and not row.is_share else ""
    cells = [cell(row, samples.get(name, ())) for name in COLUMNS]
    return _line([row.key, row.work, *cells, ratio, row.goal])


def rounds_table(rows: Mapping[str, Row], samples: Mapping[str, Samples]) -> str:
    """Return the tables of what it costs that N nodes meet; empty if that was not measured."""
    sizes = sizes_of_rounds(samples)
    if not sizes:
        return ""
    counted = {title: rows for title, rows in ROUNDS.items() if title != "elrun, memory"}
    columns = [(f"{title}, calls", " operations", *each) for title, each in counted.items()]
    columns += [(f"{title}, bytes", " bytes", *each) for title, each in counted.items()]
    seconds = [(title, "", *each) for title, each in ROUNDS.items()]
    tables = {"nodes, seconds": seconds, "nodes, per node": columns}
    return "\n\n".join(
        _table(title, sizes, columns, rows, samples) for title, columns in tables.items()
    )


def sizes_of_rounds(keys: Iterable[str]) -> list[int]:
    """Return the numbers of nodes of the rows of P6 with these keys."""
    found = (re.fullmatch(r"P6(?: etcd-v3)? (\d+)", key) for key in keys)
    return sorted({int(each[1]) for each in found if each})


def _table(
    title: str,
    sizes: Sequence[int],
    columns: Sequence[tuple[str, str, str, str]],
    rows: Mapping[str, Row],
    samples: Mapping[str, Samples],
) -> str:
    lines = [_line([title, *(each[0] for each in columns)]), "|---:" * (1 + len(columns)) + "|"]
    for size in sizes:
        keys = [f"{words} {size}{part}" for _, part, words, _ in columns]
        cells = [
            cell(rows[key], samples[key].get(name, ())) if key in samples else ""
            for key, (*_, name) in zip(keys, columns, strict=True)
        ]
        if any(cells):
            lines.append(_line([f"{size:,}", *cells]))
    return "\n".join(lines)


def typical(row: Row, figures: Sequence[Figure]) -> float | None:
    """Return what stands for all runs: the median, or the mean of shares; None if all failed."""
    known = [figure for figure in figures if not isinstance(figure, str)]
    if not known:
        return None
    return statistics.fmean(known) if row.is_share else statistics.median(known)


def cell(row: Row, figures: Sequence[Figure]) -> str:
    """Return the figures as the table shows them: the typical one, and what failed."""
    middle = typical(row, figures)
    shown = "" if middle is None else f"{middle:,.{row.digits}f}"
    failures = Counter(figure for figure in figures if isinstance(figure, str))
    if not failures:
        return shown
    if middle is None and len(failures) == 1 and len(figures) == 1:
        return next(iter(failures))
    told = ", ".join(f"{count} of {len(figures)}: {why}" for why, count in failures.items())
    return f"{shown} ({told})".strip()


def machine() -> dict[str, object]:
    """Return what the samples are taken on, and when."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write every sample, and what they were taken on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 2, **record}, indent=1) + "\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
