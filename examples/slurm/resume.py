"""Train to the end, through any number of preemptions; resume.sbatch submits it.

A step ends with a question that all ranks answer together: is the job being preempted? If it is,
rank 0 saves, all leave, and the next start goes on from there.
"""

import argparse
import gc
import os
import time
from pathlib import Path

from elrun import preemption

preemption()  # from here on the signal does not end this process: torch takes long to import

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402


def is_preempted() -> bool:
    """Return whether any rank has heard of it: none may leave the others in a collective."""
    heard = torch.tensor([float(preemption().pending)])
    dist.all_reduce(heard, dist.ReduceOp.MAX)
    return heard.item() > 0


def save(path: Path, state: dict) -> None:
    """Write a checkpoint such that a reader finds the whole of it or the one before."""
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    unfinished.replace(path)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(7)
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step, checkpoint, is_first = 0, options.folder / "checkpoint.pt", dist.get_rank() == 0
    if checkpoint.exists():  # written before the last start ended, and read by all
        state = torch.load(checkpoint, weights_only=True)
        model.module.load_state_dict(state["model"])
        step = state["step"]
    if is_first:
        print(f"restart {os.environ['ELRUN_TOTAL_RESTARTS']}: from step {step}", flush=True)

    while step < options.steps:
        inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        step += 1
        time.sleep(options.pause)
        if is_first and step % 10 == 0:
            print(f"step {step}", flush=True)
        if is_preempted():
            if is_first:
                save(checkpoint, {"model": model.module.state_dict(), "step": step})
                print(f"saved at step {step}", flush=True)
            return
    if is_first:
        print(f"finished {step} steps with loss {loss.item():.6f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the checkpoint; all nodes share it")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds a step, beside its work")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo")
    train(options)
    gc.collect()  # gloo's threads end with the last model
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
