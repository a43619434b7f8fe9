"""What earlier runs have given, by commit, and which rows are slower than they were.

Two machines differ more than two commits. So a row that torchrun has, too, is judged by how many
times longer torchrun takes; a count of instructions stands for itself. Other rows are compared by
their figures, which says little where the machine is another one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import Samples, typical
from rows import Row

FILE = Path(__file__).parent.parent / "docs" / "speed" / "runs.json"
_SLOWER = 1.25
_SHOWN = 4


def run_of(record: Mapping[str, Any], rows: Mapping[str, Row]) -> dict[str, Any]:
    """Return what is kept of a run: its commit, its date, and the typical figure of each row."""
    samples: Mapping[str, Mapping[str, Samples]] = record["samples"]
    figures = {
        key: {
            name: round(middle, 4)
            for name, figures in by_launcher.items()
            if (middle := typical(rows[key], figures)) is not None
        }
        for key, by_launcher in samples.items()
        if key in rows
    }
    machine = record["machine"]
    return {"commit": machine["commit"], "date": machine["date"], "figures": figures}


def read(path: Path = FILE) -> list[dict[str, Any]]:
    """Return the runs that were kept, oldest first."""
    return json.loads(path.read_text()) if path.exists() else []


def with_run(runs: Sequence[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs with one more; one of the same commit and date is replaced."""
    named = (run["commit"], run["date"])
    return [*(each for each in runs if (each["commit"], each["date"]) != named), run]


def write(runs: Sequence[dict[str, Any]], path: Path = FILE) -> None:
    path.write_text(json.dumps(runs, indent=1) + "\n")


def slower_than(row: Row, then: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    """Return how many times longer a row takes now than in an earlier run; None: it can't be said.

    Args:
        row: The row.
        then: The earlier run.
        now: The later one.
    """
    before, after = (each["figures"].get(row.key, {}) for each in (then, now))
    if not (before.get("elrun") and after.get("elrun")) or row.is_share:
        return None
    ratio = after["elrun"] / before["elrun"]
    if before.get("torchrun") and after.get("torchrun"):
        ratio *= before["torchrun"] / after["torchrun"]
    return ratio


def slower(
    rows: Mapping[str, Row], then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, float]:
    """Return the rows that take a quarter longer now, or more, and how many times longer."""
    found = {key: slower_than(row, then, now) for key, row in rows.items()}
    return {key: times for key, times in found.items() if times is not None and times >= _SLOWER}


def table(rows: Mapping[str, Row], runs: Sequence[Mapping[str, Any]]) -> str:
    """Return elrun's figures of the last runs, a column each, and what became of the last two."""
    shown = runs[-_SHOWN:]
    if not shown:
        return ""
    titles = [f"{each['commit']}, {each['date'].split()[0]}" for each in shown]
    lines = [f"| # | {' | '.join(titles)} | |", f"|---|{'---:|' * len(shown)}---|"]
    late = slower(rows, shown[-2], shown[-1]) if len(shown) > 1 else {}
    for key, row in rows.items():
        middles = [each["figures"].get(key, {}).get("elrun") for each in shown]
        if row.is_detail or all(each is None for each in middles):
            continue
        cells = ["" if each is None else f"{each:,.{row.digits}f}" for each in middles]
        note = f"**{late[key]:.1f} times slower**" if key in late else ""
        lines.append(f"| {key} | {' | '.join(cells)} | {note} |")
    return "\n".join(lines)
