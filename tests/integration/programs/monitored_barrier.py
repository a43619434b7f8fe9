"""A barrier that names the rank which doesn't come."""

import os
import sys
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

dist.init_process_group("gloo")
store = _get_default_store()
dist.monitored_barrier()
if dist.get_rank() == 0:
    try:
        dist.monitored_barrier(timeout=timedelta(seconds=1))
    except RuntimeError as error:
        sys.stdout.write(f"rank 0: missed rank 1 {'Rank 1' in str(error)}\n")
    store.set("told", "1")
    store.wait(["seen"])
else:
    store.wait(["told"])
    store.set("seen", "1")
sys.stdout.flush()
os._exit(0)
