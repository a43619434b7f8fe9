"""TensorDict: what ranks keep is gathered as one value, and lies in files mapped into memory."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from tensordict import TensorDict

STEPS = 6


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"]) / f"dict-{os.environ['RANK']}"
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    state = TensorDict(step=torch.zeros(1, dtype=torch.long), sums={"rank": torch.zeros(1)})
    state = TensorDict.load_memmap(folder) if folder.exists() else state.memmap(folder)
    first = int(state["step"])
    for step in range(first, STEPS):
        fail_once(step)
        mine = TensorDict(a=torch.full((2,), float(rank)), b={"c": torch.ones(2)}, batch_size=[2])
        if rank == 0:
            for other in range(1, world_size):
                theirs = mine.clone().zero_()
                theirs.recv(other)
                assert theirs["a"].tolist() == [other, other], theirs["a"]
        else:
            mine.send(0)
        mine.reduce(0)
        dist.barrier()
        state["sums", "rank"].add_(rank)
        state["step"].fill_(step + 1)
    assert state["sums", "rank"].item() == rank * STEPS, state["sums", "rank"]
    report(world_size=world_size, first_step=first, last_step=int(state["step"]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
