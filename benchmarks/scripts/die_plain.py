"""Rank 0 dies in the first BENCH_DEATHS attempts, without torch; notes say when."""

import os
import signal
import time
from pathlib import Path


def note(event: str) -> None:
    with Path(os.environ["BENCH_NOTES"]).open("a") as notes:
        notes.write(f"{event} {attempt} {time.monotonic()}\n")


attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
note("alive")
if attempt < int(os.environ["BENCH_DEATHS"]):
    if os.environ["RANK"] == "0":
        time.sleep(0.5)  # the other worker is up by then
        note("death")
        os._exit(1)
    signal.pause()
