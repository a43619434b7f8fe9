"""Tells the benchmark what has just happened to this worker."""

import os
import time


def note(event: str) -> None:
    """Write a line into the benchmark's pipe, in one piece."""
    found = os.environ
    words = (
        event,
        found["BENCH_NODE"],
        found.get("TORCHELASTIC_RESTART_COUNT", "0"),  # the floor sets none
        found["WORLD_SIZE"],
        os.getpid(),
        time.monotonic(),
    )
    pipe = os.open(found["BENCH_NOTES"], os.O_WRONLY)
    os.write(pipe, (" ".join(map(str, words)) + "\n").encode())
    os.close(pipe)
