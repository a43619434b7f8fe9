"""PyTorch Geometric: a graph network, each rank on its own neighbourhoods."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, global_mean_pool

STEPS = 6


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = GCNConv(4, 1)

    def forward(self, graphs):
        nodes = self.convolution(graphs.x, graphs.edge_index)
        return global_mean_pool(nodes, graphs.batch)


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / "network.pt"
    dist.init_process_group("gloo")
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    graphs = [Data(x=torch.rand(3, 4), edge_index=ring) for _ in range(4 * STEPS)]
    mine = torch.utils.data.distributed.DistributedSampler(graphs, shuffle=False)
    network = Network()
    first = 0
    if path.exists():
        saved = torch.load(path)
        first = saved["step"]
        network.load_state_dict(saved["network"])
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, batch in enumerate(DataLoader(graphs, batch_size=2, sampler=mine)):
        if step < first:
            continue
        fail_once(step)
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0:
            torch.save(
                {"step": step + 1, "network": network.state_dict()}, path.with_suffix(".new")
            )
            path.with_suffix(".new").rename(path)
        dist.barrier()
    report(world_size=dist.get_world_size(), first_step=first, last_step=step + 1)
    del model, network, optimizer  # what holds the group goes before it; docs/clients.md says why
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
