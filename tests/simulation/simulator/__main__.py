"""The simulator's command line: ``python -m simulator --seeds 10000``."""

import argparse
import gc
import sys
import time

from .runner import replay, report, simulate
from .scale import meet

_MOST_FAILURES = 10


def main():
    """Simulate what the command line says; exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many histories to make")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--seed", type=int, help="make this one only, and tell it in words")
    parser.add_argument("--jobs", type=int, help="how many processes; by default one a core")
    parser.add_argument("--nodes", type=int, help="let so many meet in one history, and lose one")
    options = parser.parse_args()
    if options.nodes is not None:
        gc.disable()  # a million objects are all in use
        print(f"{options.nodes:,} nodes met in {meet(options.nodes).cpu_s:.1f} s of CPU")
        return
    if options.seed is not None:
        sys.exit(bool(replay(options.seed, print).violation))
    began = time.monotonic()
    tally = simulate(range(options.first, options.first + options.seeds), options.jobs)
    print(report(tally, time.monotonic() - began))
    for seed, violation in tally.failed[:_MOST_FAILURES]:
        print(f"  seed {seed}: {violation}")
    if tally.failed:
        seed, _ = tally.failed[0]
        print(f"\nThe history of seed {seed} (`make simulate SEED={seed}` tells it again):\n")
        replay(seed, print)
        sys.exit(1)


if __name__ == "__main__":
    main()
