"""Rank 0 dies in the first BENCH_DEATHS attempts, after an all-reduce; notes say when."""

import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist


def note(event: str) -> None:
    with Path(os.environ["BENCH_NOTES"]).open("a") as notes:
        notes.write(f"{event} {attempt} {time.monotonic()}\n")


attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
note("alive")
if attempt < int(os.environ["BENCH_DEATHS"]):
    if dist.get_rank() == 0:
        note("death")
        os._exit(1)
    signal.pause()
dist.destroy_process_group()
