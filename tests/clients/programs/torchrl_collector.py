"""TorchRL: each rank collects with two processes of its own, and trains on what they found."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from faults import fail_once, report
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch.nn.parallel import DistributedDataParallel
from torchrl.collectors import MultiSyncCollector
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import EnvBase

STEPS = 6


class Walk(EnvBase):
    """A walk on a line, which each action moves."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_spec = Composite(observation=Unbounded(1))
        self.action_spec = Bounded(-1, 1, (1,))
        self.reward_spec = Unbounded(1)

    def _reset(self, _: TensorDictBase | None = None, **_options: object) -> TensorDictBase:
        return TensorDict(observation=torch.zeros(1))

    def _step(self, before: TensorDictBase) -> TensorDictBase:
        place = before["observation"] + before["action"]
        return TensorDict(observation=place, reward=-place.abs(), done=torch.tensor([False]))

    def _set_seed(self, seed: int | None) -> None:
        pass


def main() -> None:
    path = Path(os.environ["CHECKPOINTS"]) / "policy.pt"
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    inner = torch.nn.Linear(1, 1)
    policy = TensorDictModule(inner, in_keys=["observation"], out_keys=["action"])
    first = 0
    if path.exists():
        saved = torch.load(path)
        first = saved["step"]
        inner.load_state_dict(saved["policy"])
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    collector = MultiSyncCollector(
        [Walk] * 2,
        policy=policy,
        frames_per_batch=20,
        total_frames=20 * (STEPS - first),
    )
    step = first
    # The collector's processes end by its word only: without it, a rank that fails waits for them.
    try:
        for batch in collector:
            fail_once(step)
            optimizer.zero_grad()
            model(batch["observation"]).square().mean().backward()
            optimizer.step()
            collector.update_policy_weights_()
            step += 1
            if dist.get_rank() == 0:
                torch.save({"step": step, "policy": inner.state_dict()}, path.with_suffix(".new"))
                path.with_suffix(".new").rename(path)
            dist.barrier()
    finally:
        collector.shutdown()
    report(world_size=dist.get_world_size(), first_step=first, last_step=step)
    del model
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
