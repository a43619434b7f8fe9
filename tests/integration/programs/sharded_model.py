"""A model whose parameters are sharded over the workers (FSDP2) learns on a mesh of CPUs."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")
torch.manual_seed(0)
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
for layer in model:
    if isinstance(layer, torch.nn.Linear):
        fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
features = torch.randn(16, 4)
target = features.sum(dim=1, keepdim=True)
losses = []
for _ in range(10):
    loss = torch.nn.functional.mse_loss(model(features), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
local = model[0].weight.to_local().shape[0]
sys.stdout.write(f"rank {dist.get_rank()}: rows {local}, falls {losses[-1] < losses[0]}\n")
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)
