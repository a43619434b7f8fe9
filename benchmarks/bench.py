"""Measure elrun beside torchrun, in turns, and print a Markdown table with medians and the ratio.

    make bench            five runs each, some minutes
    make bench QUICK=1    three runs each

Only the ratios mean something on a shared machine. Every sample goes to build/bench.json.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import report
from cases import CASES, FULL, QUICK, Case, Plan, start_empty
from jobs import JobFailedError

JSON_PATH = Path(__file__).parent.parent / "build" / "bench.json"


def measure(case: Case, plan: Plan) -> dict[str, dict[str, list[float | None]]]:
    """Return the samples by row and launcher."""
    samples = {row.key: defaultdict(list) for row in case.rows}
    for run in range(plan.runs):
        # Whoever goes first meets a machine that the other has just warmed or heated.
        for launcher in case.launchers if run % 2 == 0 else reversed(case.launchers):
            if launcher.name in case.once and run > 0:
                continue
            try:
                figures = case.run(launcher, plan)
            except JobFailedError:
                figures = {row.key: None for row in case.rows}
            for key, figure in figures.items():
                samples[key][launcher.name].append(figure)
    return samples


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--runs", type=int, help="runs of each launcher")
    parser.add_argument("--restarts", type=int, help="restarts in a row (P13)")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="such as P1 P4")
    parser.add_argument("--json", type=Path, default=JSON_PATH, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    given = {"runs": options.runs, "restarts": options.restarts}
    plan = replace(QUICK if options.quick else FULL, **{name: n for name, n in given.items() if n})
    for launcher in CASES[0].launchers:
        start_empty(launcher, plan)  # byte code is compiled and files are in memory after this
    samples = {}
    print(report.header(), flush=True)
    for case in CASES:
        if options.only and not any(row.key.split()[0] in options.only for row in case.rows):
            continue
        samples |= measure(case, plan)
        for row in case.rows:
            print(report.line_of(row, samples[row.key]), flush=True)
    report.write_json(options.json, samples, quick=options.quick)
    print(f"\nevery sample: {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
