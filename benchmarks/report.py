"""Turns samples into a table for people and a file for programs."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from cases import Row

COLUMNS = ("elrun", "torchrun", "floor", "preloaded")

Samples = Mapping[str, Sequence[float | None]]  # by launcher


def line_of(row: Row, samples: Samples) -> str:
    """Return the row of the Markdown table."""
    middle = {name: _typical(row, figures) for name, figures in samples.items()}
    ours, theirs = middle.get("elrun"), middle.get("torchrun")
    ratio = f"{theirs / ours:.1f}" if ours and theirs and not row.is_share else ""
    cells = [_cell(row, samples.get(name)) for name in COLUMNS]
    return f"| {row.key} | {row.work} | {' | '.join(cells)} | {ratio} | {row.goal} |"


def header() -> str:
    return (
        "| # | work | elrun | torchrun | floor | `--preload torch` | torchrun / elrun | goal |\n"
        "|---|---|---:|---:|---:|---:|---:|---|"
    )


def _typical(row: Row, figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    if not known:
        return None
    return statistics.fmean(known) if row.is_share else statistics.median(known)


def _cell(row: Row, figures: Sequence[float | None] | None) -> str:
    if figures is None:
        return ""
    typical = _typical(row, figures)
    failed = figures.count(None)
    shown = "" if typical is None else f"{typical:.{row.digits}f}"
    return f"{shown} ({failed} of {len(figures)} failed)".strip() if failed else shown


def write_json(path: Path, samples: Mapping[str, Samples], *, quick: bool) -> None:
    """Write every sample, and what they were taken on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("torch", "click")}
    machine = {
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }
    record = {
        "version": 1,
        "quick": quick,
        "machine": machine,
        "versions": versions,
        "samples": samples,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
