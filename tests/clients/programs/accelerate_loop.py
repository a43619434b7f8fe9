"""Hugging Face accelerate: a loop of one's own, with its checkpoints."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from faults import fail_once, report

STEPS = 6


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    saved = sorted(folder.glob("step-*"))
    first = 0
    if saved:
        accelerator.load_state(str(saved[-1]))
        first = int(saved[-1].name.removeprefix("step-"))
    for step in range(first, STEPS):
        fail_once(step)
        loss = model(torch.ones(8, 4)).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.save_state(str(folder / f"step-{step + 1}"))
        accelerator.wait_for_everyone()
    report(world_size=accelerator.num_processes, first_step=first, last_step=STEPS)
    accelerator.end_training()


if __name__ == "__main__":
    main()
