"""Rank 0 ends in some way; the others see it gone, and only then use what needs the store.

Argument: how it ends, ``return``, ``exit`` or ``_exit``.
"""

import os
import select
import sys

import torch.distributed as dist


def use_all_that_needs_the_store(store, rank, world_size):
    others = list(range(1, world_size))
    store.set(f"from {rank}", "well")
    store.wait([f"from {each}" for each in others])
    group = dist.new_group(others, use_local_synchronization=True)
    dist.barrier(group)
    return {store.get(f"from {each}").decode() for each in others}


def main():
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    if rank == 0:
        store.set("pid", str(os.getpid()))
        store.wait(["read"])
        return
    pid = int(store.get("pid"))
    end = os.pidfd_open(pid)
    if store.add("readers", 1) == world_size - 1:
        store.set("read", "")
    select.select([end], [], [])
    sys.stdout.write(f"rank {rank}: {use_all_that_needs_the_store(store, rank, world_size)}\n")
    sys.stdout.flush()
    # A node that has ended leaves; what it holds for others in this test, it holds until then.
    if store.add("done", 1) < world_size - 1:
        store.wait(["all done"])
    else:
        store.set("all done", "")
    os._exit(0)  # see examples/train.py: torch's teardown of gloo may abort


if __name__ == "__main__":
    main()
    {"return": lambda: None, "exit": sys.exit, "_exit": lambda: os._exit(0)}[sys.argv[1]]()
