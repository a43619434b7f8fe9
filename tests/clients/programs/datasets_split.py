"""Hugging Face datasets: each rank streams its share, and resumes from the stream's state."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import Dataset
from datasets.distributed import split_dataset_by_node
from faults import fail_once, report

STEPS = 6


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / f"stream-{os.environ['RANK']}.pt"
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    whole = Dataset.from_dict({"value": list(range(STEPS * world_size))})
    stream = split_dataset_by_node(
        whole.to_iterable_dataset(num_shards=world_size), rank=rank, world_size=world_size
    )
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=False)
        first = saved["step"]
        stream.load_state_dict(saved["stream"])
    step = first
    for row in stream:
        fail_once(step)
        dist.barrier()
        assert row["value"] == rank * STEPS + step, row
        step += 1
        torch.save({"step": step, "stream": stream.state_dict()}, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    report(world_size=world_size, first_step=first, last_step=step)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
