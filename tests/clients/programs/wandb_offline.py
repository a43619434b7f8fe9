"""Weights & Biases, offline: one run, resumed by its name, that all ranks write into."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import wandb
from faults import fail_once, report

STEPS = 6


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    path = folder / "step.pt"
    dist.init_process_group("gloo")
    first = torch.load(path)["step"] if path.exists() else 0
    run = wandb.init(
        project="clients",
        group="one",
        id=f"rank-{dist.get_rank()}",
        resume="allow",
        mode="offline",
        dir=folder,
        settings=wandb.Settings(silent=True),
    )
    for step in range(first, STEPS):
        fail_once(step)
        value = torch.ones(1)
        dist.all_reduce(value)
        run.log({"sum": value.item()}, step=step)
        if dist.get_rank() == 0:
            torch.save({"step": step + 1}, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        dist.barrier()
    run.finish()
    report(world_size=dist.get_world_size(), first_step=first, last_step=STEPS)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
