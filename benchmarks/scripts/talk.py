"""A worker that prints 500,000 lines, to BENCH_STREAM."""

import os
import sys

stream = getattr(sys, os.environ.get("BENCH_STREAM", "stdout"))
for i in range(500_000):
    print(f"{i} all work and no play makes rank a dull worker", file=stream)
