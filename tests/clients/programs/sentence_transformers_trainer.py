"""sentence-transformers' Trainer, with a small BERT of random weights and six words."""

import gc
import os
from pathlib import Path

import torch
from datasets import Dataset
from faults import fail_once, report
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

STEPS = 6
WORDS = ["one", "two", "three", "four", "five", "six"]


class Steps(TrainerCallback):
    def __init__(self) -> None:
        self.first = -1

    def on_step_begin(self, args, state, control, **_) -> None:
        if self.first < 0:
            self.first = state.global_step
        fail_once(state.global_step)


def make_model(folder: Path) -> SentenceTransformer:
    words = {w: n for n, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    size = {"vocab_size": len(words), "hidden_size": 8, "intermediate_size": 8}
    config = BertConfig(num_hidden_layers=1, num_attention_heads=1, **size)
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return SentenceTransformer(
        modules=[Transformer(str(folder), max_seq_length=8), Pooling(8)], device="cpu"
    )


def main() -> None:
    folder = Path(os.environ["CHECKPOINTS"])
    model = make_model(folder / f"base-{os.environ['RANK']}")
    pairs = {"anchor": WORDS * 16, "positive": (WORDS[1:] + WORDS[:1]) * 16}
    steps = Steps()
    trainer = SentenceTransformerTrainer(
        model,
        SentenceTransformerTrainingArguments(
            str(folder / "saved"),
            max_steps=STEPS,
            save_steps=1,
            per_device_train_batch_size=4,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_dict(pairs),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[steps],
    )
    saved = folder / "saved"
    last = get_last_checkpoint(str(saved)) if saved.exists() else None
    trainer.train(resume_from_checkpoint=last)
    report(
        world_size=trainer.args.world_size,
        first_step=steps.first,
        last_step=trainer.state.global_step,
    )
    del trainer, model  # what holds the group goes before it; docs/clients.md says why
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
