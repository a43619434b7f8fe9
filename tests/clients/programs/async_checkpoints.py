"""torch.distributed.checkpoint, saved behind the training."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from faults import fail_once, report

STEPS = 6


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    dist.init_process_group("gloo")
    state = {"weight": torch.zeros(4), "step": torch.zeros(())}
    saved = sorted(path.parent for path in folder.glob("step-*/.metadata"))
    first = 0
    if saved:
        dcp.load(state, checkpoint_id=saved[-1])
        first = int(state["step"])
    for step in range(first, STEPS):
        fail_once(step)
        state["weight"] += 1
        dist.all_reduce(torch.ones(4))
        state["step"] = torch.tensor(float(step + 1))
        dcp.async_save(state, checkpoint_id=folder / f"step-{step + 1}").result()
    assert state["weight"].tolist() == [float(STEPS)] * 4, state
    report(world_size=dist.get_world_size(), first_step=first, last_step=STEPS)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
