"""torchdata's StatefulDataLoader: with processes that load, and a state that is resumed."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from torch.utils.data import DistributedSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

STEPS = 6


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / f"loader-{os.environ['RANK']}.pt"
    dist.init_process_group("gloo")
    data = TensorDataset(torch.arange(STEPS * dist.get_world_size()))
    loader = StatefulDataLoader(
        data, batch_size=1, sampler=DistributedSampler(data, shuffle=False), num_workers=1
    )
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=False)
        first = saved["step"]
        loader.load_state_dict(saved["loader"])
    step = first
    for (value,) in loader:
        fail_once(step)
        dist.barrier()
        assert value.item() == step * dist.get_world_size() + dist.get_rank(), value
        step += 1
        torch.save({"step": step, "loader": loader.state_dict()}, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    report(world_size=dist.get_world_size(), first_step=first, last_step=step)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
