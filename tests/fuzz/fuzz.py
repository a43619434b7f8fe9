"""Feeds what elrun reads from others with odd inputs, led by the code that they reach.

    make fuzz MINUTES=10                    # ten minutes for each surface
    make fuzz MINUTES=2 ONLY="wire timers" SEED=7
    make fuzz MINUTES=5 ONLY=wire KEEP=1    # keep the short inputs that reached new code

Each surface has a target in ``targets/``, and inputs that are kept in ``corpus/``: the quick tests
replay these. An input that breaks a promise is printed with the line that makes it a test. What a
run has found besides lies in ``build/fuzz/``, where the next run goes on. The exit code is 1 if a
promise was broken.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora import SURFACES, file_of, inputs_of, keep, target_of
from mutation import mutated

TREE = Path(__file__).parents[2]
WORK = TREE / "build/fuzz"
LONGEST_INPUT = 4096
SLOW_S = 30
MOST_MEMORY_MB = 1024
KEPT_BYTES, KEPT_AT_ONCE = 300, 30


@dataclass(frozen=True)
class Outcome:
    """What came of one surface.

    Args:
        surface: Its name.
        runs: How many inputs were tried.
        reached: How many places in elrun's code they reached.
        broken: The inputs that broke a promise.
        text: What was printed.
    """

    surface: str
    runs: int
    reached: int
    broken: tuple[bytes, ...]
    text: str


def fuzz(surface: str, seconds: int, seed: int) -> Outcome:
    """Try inputs for so long, or until one breaks a promise."""
    found, broken = WORK / surface / "found", WORK / surface / "broken"
    for folder in (found, broken):
        folder.mkdir(parents=True, exist_ok=True)
    for each in broken.iterdir():
        each.unlink()
    for each in inputs_of(surface):
        (found / hashlib.sha256(each).hexdigest()[:16]).write_bytes(each)
    command = [
        *(sys.executable, __file__, "--surface", surface, f"-max_total_time={seconds}"),
        *(f"-seed={seed}", f"-timeout={SLOW_S}", f"-rss_limit_mb={MOST_MEMORY_MB}"),
        *(f"-max_len={LONGEST_INPUT}", f"-artifact_prefix={broken}/", "-print_final_stats=1"),
        str(found),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    runs = re.findall(r"number_of_executed_units: (\d+)", done.stdout)
    reached = re.findall(r" cov: (\d+)", done.stdout)
    # Beside these there are inputs that merely took longest.
    faults = [path for path in sorted(broken.iterdir()) if not path.name.startswith("slow-unit-")]
    inputs = tuple(path.read_bytes() for path in faults)
    if done.returncode and not inputs:
        raise SystemExit(f"{surface}: exit code {done.returncode}\n{done.stdout}")
    return Outcome(
        surface, int((runs or ["0"])[-1]), int((reached or ["0"])[-1]), inputs, done.stdout
    )


def run_child(surface: str, options: Sequence[str]) -> None:
    """Become libFuzzer for one surface."""
    import atheris  # not where the kept inputs are replayed

    with atheris.instrument_imports(include=["elrun"]):
        attempt: Callable[[bytes], None] = target_of(surface).attempt

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        changed = mutated(data, seed) if seed % 2 else None
        if changed is None or len(changed) > max_size:
            return atheris.Mutate(data, max_size)
        return changed

    atheris.Setup([sys.argv[0], *options], attempt, custom_mutator=mutate)
    atheris.Fuzz()


def tell(outcome: Outcome, seconds: float) -> None:
    rate = outcome.runs / max(seconds, 1)
    print(
        f"{outcome.surface}: {outcome.runs:,} inputs in {seconds:.0f} s ({rate:,.0f} a second),"
        f" {outcome.reached:,} places reached, {len(outcome.broken)} broken",
        flush=True,
    )
    for each in outcome.broken:
        lines = outcome.text.splitlines()
        start = next((n for n, line in enumerate(lines) if "Uncaught" in line), len(lines) - 30)
        print("\n".join(lines[start : start + 40]))
        print(f"{outcome.surface}: this input breaks a promise:\n{each!r}")
        print(f"to make it a test, add that line to {file_of(outcome.surface).relative_to(TREE)}")


def keep_found(surface: str) -> int:
    """Keep the shortest inputs that reach what no shorter one does."""
    found, least = WORK / surface / "found", WORK / surface / "least"
    least.mkdir(exist_ok=True)
    for each in least.iterdir():
        each.unlink()
    command = [sys.executable, __file__, "--surface", surface, "-merge=1", str(least), str(found)]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    inputs = sorted(
        (path.read_bytes() for path in least.iterdir()), key=lambda each: (len(each), each)
    )
    short = [each for each in inputs if len(repr(each)) <= KEPT_BYTES]
    step = max(1, len(short) // KEPT_AT_ONCE)
    return keep(surface, short[::step][:KEPT_AT_ONCE])


def main() -> int:
    if "--surface" in sys.argv[1:2]:
        run_child(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for each surface")
    parser.add_argument("--only", nargs="*", default=SURFACES, choices=SURFACES)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--keep", action="store_true", help="keep inputs that reached new code")
    options = parser.parse_args()
    seed = options.seed or int.from_bytes(os.urandom(3), "big") + 1
    print(f"SEED={seed}")
    is_broken = False
    for surface in options.only:
        started_at = time.monotonic()
        outcome = fuzz(surface, max(1, round(options.minutes * 60)), seed)
        tell(outcome, time.monotonic() - started_at)
        is_broken |= bool(outcome.broken)
        if options.keep and not outcome.broken:
            print(f"{surface}: {keep_found(surface)} inputs are kept")
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
