"""Data-parallel workers, each of which reads through two DataLoader processes of its own."""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    numbers = TensorDataset(torch.arange(32, dtype=torch.float32).reshape(32, 1))
    sampler = DistributedSampler(numbers, shuffle=False)
    loader = DataLoader(
        numbers, batch_size=4, sampler=sampler, num_workers=2, multiprocessing_context="spawn"
    )
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    seen = 0
    for (batch,) in loader:
        loss = (model(batch) - batch).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(batch)
    weights = [torch.zeros(1, 1) for _ in range(dist.get_world_size())]
    dist.all_gather(weights, model.module.weight.data)
    agree = all(torch.equal(each, weights[0]) for each in weights)
    sys.stdout.write(f"rank {dist.get_rank()}: saw {seen}, weights agree {agree}\n")
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
