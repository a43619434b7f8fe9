"""A worker that imports torch, forms a gloo group, all-reduces once and leaves; notes say when."""

from note import note

note("line")

import torch  # noqa: E402  it is what is timed
import torch.distributed as dist  # noqa: E402  the same

note("torch")
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
note("group")
dist.destroy_process_group()
