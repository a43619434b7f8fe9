"""PEFT: a low-rank adapter for a small GPT-2, trained by transformers' Trainer."""

import gc
import os
from pathlib import Path

import torch
from faults import fail_once, report
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

STEPS = 6


class Words(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = torch.arange(8) % 16
        return {"input_ids": words, "labels": words}


class Steps(TrainerCallback):
    def __init__(self) -> None:
        self.first = -1

    def on_step_begin(self, args, state, control, **_) -> None:
        if self.first < 0:
            self.first = state.global_step
        fail_once(state.global_step)


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    size = {"vocab_size": 16, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    base = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **size))
    adapter = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = get_peft_model(base, adapter)
    steps = Steps()
    trainer = Trainer(
        model,
        TrainingArguments(
            str(folder),
            max_steps=STEPS,
            save_steps=1,
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Words(),
        callbacks=[steps],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    report(
        world_size=trainer.args.world_size,
        first_step=steps.first,
        last_step=trainer.state.global_step,
    )
    del trainer, model, base  # what holds the group goes before it; docs/clients.md says why
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
