"""A worker that prints BENCH_LINES lines, now and then, each with the time at which it does."""

import os
import time

for _ in range(int(os.environ["BENCH_LINES"])):
    time.sleep(0.037)  # in no step with somebody who looks ten times a second
    print(f"said at {time.monotonic()}", flush=True)
