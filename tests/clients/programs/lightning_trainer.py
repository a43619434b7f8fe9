"""Lightning's Trainer, with its ModelCheckpoint."""

import os
from pathlib import Path

import lightning
import torch
from faults import fail_once, report
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

STEPS = 6


class Line(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.first_step = -1

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        if self.first_step < 0:
            self.first_step = self.global_step
        fail_once(self.global_step)
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=local,
        num_nodes=int(os.environ["WORLD_SIZE"]) // local,
        strategy="ddp",
        max_steps=STEPS,
        callbacks=[ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    model = Line()
    data = DataLoader(TensorDataset(torch.ones(64, 4)), batch_size=4)
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    report(
        world_size=trainer.world_size, first_step=model.first_step, last_step=trainer.global_step
    )


if __name__ == "__main__":
    main()
