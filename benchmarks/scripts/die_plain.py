"""Rank 0 dies in the first BENCH_DEATHS attempts, without torch; notes say when."""

import os
import signal
import time

from note import note

note("alive")
if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) < int(os.environ["BENCH_DEATHS"]):
    if os.environ["RANK"] == "0":
        time.sleep(0.5)  # the other worker is up by then
        note("death")
        os._exit(1)
    signal.pause()
