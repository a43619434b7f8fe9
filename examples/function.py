"""Start a Python function on several workers and read what each returns.

    python examples/function.py

It needs no torchrun-style command line: the program that launches is this one.
"""

import math
import os

from elrun import LaunchConfig, elastic_launch


def estimate_pi(samples: int) -> float:
    """Return pi from this rank's share of Euler's sum over 1 / n², the other shares added in."""
    # Imported where it is used: the workers need torch, the launching program doesn't.
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    share = sum(1 / n**2 for n in range(1 + rank, samples, world_size))
    total = torch.tensor(share, dtype=torch.float64)
    dist.all_reduce(total)
    dist.destroy_process_group()
    print(f"rank {rank} of {world_size} summed its share in process {os.getpid()}")
    return math.sqrt(6 * total.item())


def main() -> None:
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, rdzv_backend="standalone")
    by_rank = elastic_launch(config, estimate_pi)(1_000_000)
    for rank, value in sorted(by_rank.items()):
        print(f"rank {rank} returned {value:.6f}")


if __name__ == "__main__":
    main()
