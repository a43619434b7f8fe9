"""Lightning Fabric: a loop of one's own, with its checkpoints."""

import os
from pathlib import Path

import torch
from faults import fail_once, report
from lightning.fabric import Fabric

STEPS = 6


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / "fabric.ckpt"
    fabric = Fabric(
        accelerator="cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"]),
        strategy="ddp",
    )
    fabric.launch()
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer = fabric.setup(model, optimizer)
    state = {"model": model, "optimizer": optimizer, "step": 0}
    if path.exists():
        fabric.load(path, state)
    first = state["step"]
    for step in range(first, STEPS):
        fail_once(step)
        loss = model(torch.ones(8, 4)).square().mean()
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        fabric.save(path, {**state, "step": step + 1})
        fabric.barrier()
    report(world_size=fabric.world_size, first_step=first, last_step=STEPS)


if __name__ == "__main__":
    main()
