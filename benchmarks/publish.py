"""Put the figures of the last `make bench` into docs/speed.md, and its charts beside it.

    make bench PUBLISH=1, or make bench && python benchmarks/publish.py

What stands between the markers `<!-- NAME -->` and `<!-- end of NAME -->` is written anew. The
run's figures are kept in docs/speed/runs.json, for the table of then and now.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import history
import pictures
import report
from bench import JSON_PATH
from cases import ROWS

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
CHARTS = PAGE.parent / "speed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, nargs="?", default=JSON_PATH, metavar="FILE")
    record = json.loads(parser.parse_args().json.read_text())
    samples = record["samples"]
    runs = history.with_run(history.read(), history.run_of(record, ROWS))
    parts = {
        "machine": machine_line(record),
        "figures": first_table(samples),
        "rounds": report.rounds_table(ROWS, samples),
        "runs": history.table(ROWS, runs),
    }
    PAGE.write_text(replaced(PAGE.read_text(), parts))
    CHARTS.mkdir(exist_ok=True)
    history.write(runs)
    for name, picture in pictures.all_of(ROWS, samples).items():
        (CHARTS / name).write_text(picture)
    missing = sorted(row.key for row in ROWS.values() if not samples.get(row.key))
    if missing or record["quick"]:
        print(f"not a full run: {'quick' if record['quick'] else missing}", file=sys.stderr)


def first_table(samples: Mapping[str, report.Samples]) -> str:
    """Return the table with all rows that were measured and are no detail."""
    rows = [row for row in ROWS.values() if samples.get(row.key) and not row.is_detail]
    return "\n".join([report.HEADER, *(report.line_of(row, samples[row.key]) for row in rows)])


def machine_line(record: Mapping[str, Mapping[str, object]]) -> str:
    """Return the sentence that says what the figures were taken on."""
    return (
        "Run of {date}, elrun {commit}: {cpus} cores, Linux {kernel}, Python {python}, torch "
        "{torch}; load {load:.1f} when it began, {minutes} minutes."
    ).format(**record["machine"])


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """Return a page with parts between their markers.

    Raises:
        ValueError: A part has no markers, or more than one pair.
    """
    for name, text in parts.items():
        markers = f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        whole = f"{text}\n\n" if text else ""
        page, count = re.subn(
            markers, lambda found, put=whole: f"{found[1]}\n{put}{found[2]}", page, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"{count} pairs of markers for {name!r}; one is wanted")
    return page


if __name__ == "__main__":
    main()
