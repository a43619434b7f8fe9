"""Train a small character-level transformer on the documentation that every Python ships.

    elrun --standalone --nproc-per-node 2 --max-restarts 3 examples/train.py

It takes about 20 seconds on two CPU cores. With ``--die-at-step 150`` one worker kills itself on
the way; the job restarts from the last checkpoint and ends with the same loss as without.
"""

import argparse
import gc
import os
import pydoc_data.topics
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

SEED = 7
WIDTH, HEADS, LAYERS, CONTEXT = 64, 4, 2, 64
BATCH = 32  # sequences a step, over all workers: the job learns the same at any world size
LEARNING_RATE = 3e-3


class Block(nn.Module):
    """One transformer layer: attention to what came before, then a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)  # each: batch, head, time, width of a head
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    """Characters in, the logits of each next character out."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary))

    def forward(self, characters: Tensor) -> Tensor:
        return self.head(self.blocks(self.token(characters) + self.place))


def read_text() -> tuple[Tensor, Tensor, int]:
    """Return the text to train on, the text to be judged by, and the number of characters."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))
    index_of = {character: i for i, character in enumerate(sorted(set(text)))}
    encoded = torch.tensor([index_of[character] for character in text])
    border = len(encoded) * 9 // 10
    return encoded[:border], encoded[border:], len(index_of)


def batch_of(text: Tensor, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return this rank's share of the batch that belongs to the seed: inputs and targets.

    It depends on nothing else, so a step that is done again after a restart sees the same text.
    """
    dice = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(text) - CONTEXT, (BATCH,), generator=dice)
    mine = starts[dist.get_rank() :: dist.get_world_size()]
    window = text[mine[:, None] + torch.arange(CONTEXT + 1)].to(device)
    return window[:, :-1], window[:, 1:]


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


@torch.no_grad()
def validate(model: nn.Module, text: Tensor, device: torch.device) -> float:
    """Return the mean loss on text that the model is not trained on, the same on every rank."""
    losses = [loss_of(model, *batch_of(text, -seed, device)) for seed in range(1, 9)]
    mean = torch.stack(losses).mean()
    dist.all_reduce(mean)
    return mean.item() / dist.get_world_size()


def save(path: Path, state: dict) -> None:
    """Write a checkpoint such that a reader finds the whole of it or the one before."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> dict | None:
    """Return rank 0's checkpoint on every rank, or None: no other rank needs the file."""
    state = [None]
    if dist.get_rank() == 0 and path.exists():
        state = [torch.load(path, weights_only=True, map_location="cpu")]
    dist.broadcast_object_list(state)
    return state[0]


def die_once(marker: Path, attempt: str) -> None:
    """Kill this process, as the kernel would when memory runs out, unless that was done before."""
    if not marker.exists():
        marker.write_text(attempt)
        os.kill(os.getpid(), signal.SIGKILL)


def restart_gap_s(marker: Path, attempt: str) -> float | None:
    """Return the seconds since a rank died in the attempt before this one, if it did."""
    if marker.exists() and int(marker.read_text()) == int(attempt) - 1:
        return time.time() - marker.stat().st_mtime
    return None


def train(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    rank, attempt = dist.get_rank(), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    checkpoint, marker = folder / "checkpoint.pt", folder / "died"
    say = partial(print, flush=True) if rank == 0 else lambda _: None

    train_text, validation_text, vocabulary = read_text()
    say(f"{dist.get_world_size()} workers, {len(train_text):,} characters to learn from")
    torch.manual_seed(SEED)
    model = DistributedDataParallel(Model(vocabulary).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    first_step = 0
    if state := load(checkpoint):
        model.module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step = state["step"]
        say(f"resumed at step {first_step}")

    for step in range(first_step, options.steps):
        if step == options.die_at_step and rank == options.die_rank:
            die_once(marker, attempt)
        optimizer.zero_grad()
        loss_of(model, *batch_of(train_text, step, device)).backward()
        optimizer.step()
        if step == first_step and (gap_s := restart_gap_s(marker, attempt)):
            say(f"restart gap {gap_s:.2f} s")
        if (step + 1) % options.save_every == 0:
            say(f"step {step + 1:4d}  loss {validate(model, validation_text, device):.4f}")
            if rank == 0:
                states = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
                save(checkpoint, {**states, "step": step + 1})

    say(f"final loss {validate(model, validation_text, device):.6f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: lasts as the job")
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    parser.add_argument("--die-at-step", type=int, metavar="STEP", help="one rank dies, once")
    parser.add_argument("--die-rank", type=int, default=1, metavar="RANK")
    return parser.parse_args()


@record
def main() -> None:
    options = parse_arguments()
    # The run id is the same in all attempts of a job and differs from job to job.
    job = f"elrun-train-{os.getuid()}-{os.environ.get('TORCHELASTIC_RUN_ID', 'none')}"
    folder = options.checkpoint or Path(tempfile.gettempdir(), job)
    folder.mkdir(parents=True, exist_ok=True)

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    train(options, folder, device)
    if not options.checkpoint and dist.get_rank() == 0:
        shutil.rmtree(folder)

    # Gloo's threads end with the last DDP object. Left to the interpreter's own end, they abort it
    # now and then ("terminate called without an active exception", torch 2.13).
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
