"""The benchmarks are scripts beside each other, not a package: their folder goes on the path."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

if BENCHMARKS.is_dir():
    sys.path.append(str(BENCHMARKS))
else:  # CI tests a wheel with nothing but the tests beside it
    collect_ignore_glob = ["test_*.py"]
