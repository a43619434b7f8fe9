"""A worker that imports torch, forms a gloo group, all-reduces once and leaves."""

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
dist.destroy_process_group()
