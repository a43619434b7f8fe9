"""Workers save a sharded checkpoint at each step and go on from the last one after a restart."""

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

FOLDER, STEPS, DIES_AT = sys.argv[1], 4, 2

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
state = {"weights": distribute_tensor(torch.zeros(8), mesh, [Shard(0)]), "step": 0}
if os.path.exists(f"{FOLDER}/.metadata"):
    dcp.load(state, checkpoint_id=FOLDER)
begun_at = state["step"]
while state["step"] < STEPS:
    if attempt == 0 and state["step"] == DIES_AT and rank == 1:
        os._exit(9)
    state["weights"] = state["weights"] + 1
    state["step"] += 1
    dcp.save(state, checkpoint_id=FOLDER)
total = int(state["weights"].full_tensor().sum())
sys.stdout.write(f"rank {rank}: from step {begun_at}, sum {total}\n")
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)
