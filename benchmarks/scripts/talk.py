"""A worker that prints 500,000 lines, to BENCH_STREAM; "": to nobody."""

import os
import sys

name = os.environ.get("BENCH_STREAM", "stdout")
stream = getattr(sys, name) if name else open(os.devnull, "w", buffering=1)  # noqa: SIM115
for i in range(500_000):
    print(f"{i} all work and no play makes rank a dull worker", file=stream)
