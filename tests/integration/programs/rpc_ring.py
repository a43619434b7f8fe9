"""Each worker asks the next one to add two numbers, over RPC."""

import os
import sys

import torch
from torch.distributed import rpc

rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
rpc.init_rpc(f"worker{rank}", rank=rank, world_size=world_size)
next_one = f"worker{(rank + 1) % world_size}"
total = rpc.rpc_sync(next_one, torch.add, args=(torch.tensor(rank), torch.tensor(40)))
remote = rpc.remote(next_one, torch.mul, args=(torch.tensor(rank), torch.tensor(2))).to_here()
rpc.shutdown()
sys.stdout.write(f"rank {rank}: {int(total)} {int(remote)}\n")
sys.stdout.flush()
os._exit(0)  # see examples/train.py: torch's teardown of gloo may abort
