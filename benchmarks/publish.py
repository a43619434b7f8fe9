"""Put the figures of the last `make bench` into docs/speed.md and README.md, and its charts.

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
FRONT_PAGE = PAGE.parent.parent / "README.md"
FRONT = """\
| | torchrun {torch} | elrun | row in [docs/speed.md](docs/speed.md) |
|---|---|---|---|
| start and end of an empty script | {P1 torchrun} | {P1 elrun} | P1 |
| restart of a script with torch | {P3 torchrun} | \
{P3 elrun}; {P3 preloaded} with `--preload torch` | P3 |
| memory of the agent | {P5 RSS torchrun}: it imports torch | {P5 RSS elrun} | P5 |
| restarts of a gloo job that succeed | {P13 torchrun}: workers get the old store | \
{P13 elrun}: a new store each time | P13 |
| one of three agents dies: until the others go on | {P8 torchrun} | {P8 elrun} | P8 |
| an agent is killed with SIGKILL | its workers live on | its workers are killed | P12 |
| a failed job prints | a table, after a traceback of its own | the root cause, then a table | |
| exit code of a failed job | 1 | the root cause's | |
| state of the nodes' meeting | pickled | JSON | |

`make bench` measured these figures on {date}, on {cpus} cores, both launchers in turns; it does so
on your machine, too."""
"""The table of the README: a figure's name is that of its row and of its launcher."""
_UNITS = {"P1": "s", "P3": "s", "P5 RSS": "MB", "P13": "%", "P8": "s"}
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
    if record["quick"] or _UNITS.keys() & {*missing}:
        print(f"{FRONT_PAGE.name} keeps its figures", file=sys.stderr)
    else:
        parts = {"figures": front_table(samples, record["machine"])}
        FRONT_PAGE.write_text(replaced(FRONT_PAGE.read_text(), parts))


def first_table(samples: Mapping[str, report.Samples]) -> str:
    """Return the table with all rows that were measured and are no detail."""
    rows = [row for row in ROWS.values() if samples.get(row.key) and not row.is_detail]
    return "\n".join([report.HEADER, *(report.line_of(row, samples[row.key]) for row in rows)])


def front_table(samples: Mapping[str, report.Samples], machine: Mapping[str, object]) -> str:
    """Return the README's table, and the sentence that says when and where it was measured."""
    figures = {
        f"{key} {launcher}": _with_unit(report.cell(ROWS[key], taken), unit)
        for key, unit in _UNITS.items()
        for launcher, taken in samples[key].items()
    }
    version = ".".join(str(machine["torch"]).split(".")[:2])
    day = str(machine["date"]).split()[0]
    return FRONT.format_map({**figures, "torch": version, "date": day, "cpus": machine["cpus"]})


def _with_unit(cell: str, unit: str) -> str:
    """Return a cell with the unit behind its figure; one without a figure as it is."""
    return re.sub(r"^([\d,.]+)(?= \(|$)", rf"\1 {unit}", cell)


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
