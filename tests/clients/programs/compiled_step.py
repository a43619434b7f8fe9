"""torch.compile within a worker, under DistributedDataParallel."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from torch.nn.parallel import DistributedDataParallel

STEPS = 6


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / "compiled.pt"
    dist.init_process_group("gloo")
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = 0
    if path.exists():
        saved = torch.load(path)
        first = saved["step"]
        model.load_state_dict(saved["model"])
    compiled = torch.compile(DistributedDataParallel(model))
    dist.barrier()
    for step in range(first, STEPS):
        fail_once(step)
        loss = compiled(torch.ones(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0:
            torch.save({"step": step + 1, "model": model.state_dict()}, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        dist.barrier()
    report(world_size=dist.get_world_size(), first_step=first, last_step=STEPS)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
