"""Launches workers that form a group, and tell who serves the store in which they met.

Arguments: ``elrun`` for elrun's own rendezvous, or ``torch`` for torch's, made known to elrun as a
plug-in is; the endpoint; the number of nodes.
"""

import os
import sys
from pathlib import Path

from elrun.rendezvous import rendezvous_handler_registry

from elrun import LaunchConfig, elastic_launch

LISTENING = "0A"


def torchs_handler(parameters):
    """Return torch's own handler over c10d, as torchrun would use it, under another name."""
    from torch.distributed.elastic.rendezvous import (  # with torch's only
        c10d_rendezvous_backend,
        dynamic_rendezvous,
    )

    class Backend(c10d_rendezvous_backend.C10dRendezvousBackend):
        name = parameters.backend

    _, store = c10d_rendezvous_backend.create_backend(parameters)
    backend = Backend(store, parameters.run_id)
    return dynamic_rendezvous.create_handler(store, backend, parameters)


def meet():
    """Sum over all ranks; return what the variable says, and who serves the store."""
    import torch  # the agent needs none
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.ones(1)
    dist.all_reduce(total)
    hosts = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, listener(int(os.environ["MASTER_PORT"])))
    dist.destroy_process_group()
    return os.environ["TORCHELASTIC_USE_AGENT_STORE"], int(total), hosts


def listener(port):
    """Return whether this worker listens on the port, or its agent, or a process of its agent's."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            for line in lines.readlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    agent = os.getppid()
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    helpers = [pid for pid in children if comm(pid) == "elrun-store"]
    for pid, name in ((os.getpid(), "worker"), (agent, "agent"), *((it, "host") for it in helpers)):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    return name
            except FileNotFoundError:  # closed meanwhile
                continue
    return "another"


def comm(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


if __name__ == "__main__":
    whose, endpoint, nodes = sys.argv[1:]
    rendezvous_handler_registry.register("torch-c10d", torchs_handler)
    config = LaunchConfig(
        int(nodes),
        int(nodes),
        2,
        run_id="whose-store",
        rdzv_backend={"elrun": "c10d" if endpoint else "", "torch": "torch-c10d"}[whose],
        rdzv_endpoint=endpoint,
        max_restarts=0,
    )
    for rank, told in sorted(elastic_launch(config, meet)().items()):
        print(rank, *told)
