"""torchmetrics: a metric that is summed up over the ranks in each step."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from torchmetrics import MeanMetric

STEPS = 6


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / f"metric-{os.environ['RANK']}.pt"
    dist.init_process_group("gloo")
    metric = MeanMetric()
    metric.persistent(mode=True)
    first = 0
    if path.exists():
        saved = torch.load(path)
        first = saved["step"]
        metric.load_state_dict(saved["metric"])
    for step in range(first, STEPS):
        fail_once(step)
        dist.barrier()
        metric.update(float(dist.get_rank()))
        mean = metric.compute().item()
        expected = (dist.get_world_size() - 1) / 2
        assert mean == expected, mean
        torch.save({"step": step + 1, "metric": metric.state_dict()}, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    report(world_size=dist.get_world_size(), first_step=first, last_step=STEPS)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
