"""PyTorch-Ignite: an engine under `idist.Parallel`, with its Checkpoint handler."""

import os
from pathlib import Path

import ignite.distributed as idist
import torch
from faults import fail_once, report
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver

STEPS = 6


def train(_: int) -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    model = idist.auto_model(torch.nn.Linear(4, 1))
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.01))

    def step(_engine: Engine, batch: torch.Tensor) -> float:
        fail_once(_engine.state.iteration - 1)
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(step)
    parts = {"model": model, "optimizer": optimizer, "engine": engine}
    saver = Checkpoint(parts, DiskSaver(folder, require_empty=False), n_saved=2)
    saved = sorted(folder.glob("checkpoint_*.pt"), key=lambda path: int(path.stem.split("_")[-1]))
    if saved:
        Checkpoint.load_objects(parts, torch.load(saved[-1], weights_only=False))
    engine.add_event_handler(Events.ITERATION_COMPLETED, saver)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: idist.barrier())
    first = engine.state.iteration
    engine.run([torch.ones(8, 4)] * STEPS, max_epochs=1)
    report(world_size=idist.get_world_size(), first_step=first, last_step=engine.state.iteration)


if __name__ == "__main__":
    with idist.Parallel(backend="gloo") as parallel:
        parallel.run(train)
