"""Two workers run a function, started as the first argument says; each returns its sum."""

import os
import sys

from elrun import LaunchConfig, elastic_launch


def add(factor):
    import torch  # in the workers only
    import torch.distributed as dist

    dist.init_process_group("gloo")
    part = torch.tensor([factor * (dist.get_rank() + 1.0)])
    dist.all_reduce(part)
    dist.destroy_process_group()
    return int(os.environ["RANK"]), part.item()


if __name__ == "__main__":
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="functions", start_method=sys.argv[1]
    )
    print(sorted(elastic_launch(config, add)(10).items()))
