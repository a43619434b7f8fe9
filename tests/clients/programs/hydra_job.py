"""Hydra: options of the script's own, and a folder for each run that it changes into."""

import os
from pathlib import Path

import hydra
import torch
import torch.distributed as dist
from faults import fail_once, report
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path=None)
def main(options: DictConfig) -> None:
    path = Path(os.environ["CHECKPOINTS"]) / "hydra.pt"
    dist.init_process_group("gloo")
    first = torch.load(path)["step"] if path.exists() else 0
    dist.barrier()
    for step in range(first, options.steps):
        fail_once(step)
        dist.all_reduce(torch.ones(1))
        if dist.get_rank() == 0:
            torch.save({"step": step + 1}, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        dist.barrier()
    report(world_size=dist.get_world_size(), first_step=first, last_step=options.steps)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
