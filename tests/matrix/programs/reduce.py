"""Each worker adds its part in a gloo group. With ``fails-once``, rank 1 leaves before that."""

import os
import sys

import torch
import torch.distributed as dist

rank, attempt = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
if "fails-once" in sys.argv and rank == 1 and attempt == "0":
    sys.exit(3)
dist.init_process_group("gloo")
part = torch.tensor([rank + 1.0])
dist.all_reduce(part)
# One write a line: print makes two, between which another worker may write.
sys.stdout.write(f"rank {rank} of {dist.get_world_size()}: sum {part.item():g}\n")
sys.stdout.flush()
dist.destroy_process_group()
