"""Rank 0 dies in the first BENCH_DEATHS attempts, some time after an all-reduce; notes say when."""

import os
import signal
import time

import torch
import torch.distributed as dist
from note import note

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
note("alive")
if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) < int(os.environ["BENCH_DEATHS"]):
    if dist.get_rank() == 0:
        time.sleep(float(os.environ.get("BENCH_LIFE_S", "0")))
        note("death")
        os._exit(1)
    signal.pause()
dist.destroy_process_group()
