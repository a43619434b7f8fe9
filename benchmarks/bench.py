"""Measure elrun beside torchrun, in turns, and print a Markdown table with medians and the ratio.

    make bench            a quarter of an hour
    make bench QUICK=1    three minutes
    make bench ONLY="P3 P14"

Only the ratios mean something on a shared machine. Every sample goes to build/bench.json, charts go
beside it.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import history
import pictures
import report
from alone import start_empty
from cases import CASES, ROWS
from rows import FULL, QUICK, Case, FailedError, Figure, Launcher, Plan

JSON_PATH = Path(__file__).parent.parent / "build" / "bench.json"


def measure(case: Case, plan: Plan) -> dict[str, dict[str, list[Figure]]]:
    """Return the samples by row and launcher."""
    samples: dict[str, dict[str, list[Figure]]] = {row.key: defaultdict(list) for row in case.rows}
    for run in range(plan.runs):
        # Whoever goes first meets a machine that the other has just warmed or heated.
        for launcher in case.launchers if run % 2 == 0 else reversed(case.launchers):
            if run < case.runs(launcher, plan):
                for key, figure in figures_of(case, launcher, plan).items():
                    samples[key][launcher.name].append(figure)
    return samples


def figures_of(case: Case, launcher: Launcher, plan: Plan) -> Mapping[str, Figure]:
    try:
        return case.run(launcher, plan)
    except (FailedError, OSError) as failed:  # such as a process that has gone when it is looked at
        return {row.key: str(failed) for row in case.rows}


def left_out(cases: Sequence[Case], plan: Plan) -> list[str]:
    """Return what a plan does not measure, row by row."""
    missing = []
    for case in cases:
        names = [it.name for it in case.launchers if case.runs(it, FULL) > case.runs(it, plan) == 0]
        if names:
            missing.append(f"{case.rows[0].key} ({', '.join(names)})")
    return missing


def chosen(names: Sequence[str]) -> list[Case]:
    """Return the cases that have a row of these names; none given: all.

    Args:
        names: Whole names of rows, such as ``P13 waiting``, or their first words.

    Raises:
        ValueError: A name is that of no row.
    """
    keys = {key for row in ROWS for key in (row, row.split()[0])}
    if unknown := [name for name in names if name not in keys]:
        raise ValueError(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return [
        case
        for case in CASES
        if not names or any({row.key, row.key.split()[0]} & {*names} for row in case.rows)
    ]


def slower_lines(run: Mapping[str, Any]) -> list[str]:
    """Return what is slower than in the last run that was published."""
    return [
        f"slower than {then['commit']} of {then['date']}: {key}, {times:.2f} times"
        for then in history.read()[-1:]
        for key, times in history.slower(ROWS, then, run).items()
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--runs", type=int, help="runs of each launcher, at most")
    parser.add_argument("--restarts", type=int, help="restarts in a row (P13)")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="such as P1 P4")
    parser.add_argument("--json", type=Path, default=JSON_PATH, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    given = {"runs": options.runs, "restarts": options.restarts}
    plan = replace(QUICK if options.quick else FULL, **{name: n for name, n in given.items() if n})
    try:
        cases = chosen(options.only)
    except ValueError as unknown:
        sys.exit(str(unknown))
    started_s = time.monotonic()
    machine = report.machine()
    for launcher in CASES[0].launchers:
        start_empty(launcher, plan)  # byte code is compiled and files are in memory after this
    samples: dict[str, Mapping[str, Sequence[Figure]]] = {}
    print(report.HEADER, flush=True)
    for case in cases:
        taken = measure(case, plan)
        samples |= taken
        machine["minutes"] = round((time.monotonic() - started_s) / 60, 1)
        record = {"quick": plan.is_quick, "machine": machine, "samples": samples}
        report.write_json(options.json, record)  # each time: an end in the middle loses little
        for row in case.rows:
            if any(taken[row.key].values()) and not row.is_detail:
                print(report.line_of(row, taken[row.key]), flush=True)
    table = report.rounds_table(ROWS, samples)
    if table:
        print(f"\n{table}")
    for name, picture in pictures.all_of(ROWS, samples).items():
        options.json.with_name(name).write_text(picture)
    for line in slower_lines(history.run_of({"machine": machine, "samples": samples}, ROWS)):
        print(line, file=sys.stderr)
    missing = left_out(cases, plan)
    if missing:
        print(f"\nleft out: {', '.join(missing)}", file=sys.stderr)
    print(f"\nevery sample: {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
