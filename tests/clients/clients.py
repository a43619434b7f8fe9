"""Runs small trainings of the libraries that people use, under elrun, in five ways each.

    make clients                       # all of them: a quarter of an hour
    make clients ONLY="hydra fabric"   # those with that in their name

What was printed is in ``build/clients/``. The rows go between the markers of ``docs/clients.md``,
each with the day on which it was run; those of other clients stay. The exit code is 1 if a run did
not end as it should.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix_jobs import finish, free_port, last_line, start

TREE = Path(__file__).parents[2]
PROGRAMS = Path(__file__).with_name("programs")
LOGS = TREE / "build/clients"
PAGE = TREE / "docs/clients.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"

WELL = "ok"
RUN_S = 300.0
STEPS = 6
FAILING_STEP = 3


@dataclass(frozen=True)
class Client:
    """A library, and the program that uses it.

    Args:
        name: What it is called in the table.
        distribution: The package whose version the table shows.
        program: The program's file, without ``.py``.
        module: What is preloaded beside torch.
        arguments: The program's own.
    """

    name: str
    distribution: str
    program: str
    module: str = ""
    arguments: tuple[str, ...] = ()


CLIENTS = (
    Client("accelerate", "accelerate", "accelerate_loop", "accelerate"),
    Client("Lightning Fabric", "lightning", "lightning_fabric", "lightning.fabric"),
    Client("Lightning Trainer", "lightning", "lightning_trainer", "lightning"),
    Client("transformers Trainer", "transformers", "transformers_trainer", "transformers"),
    Client("Ignite", "pytorch-ignite", "ignite_engine", "ignite.distributed"),
    Client("torchmetrics", "torchmetrics", "torchmetrics_sync", "torchmetrics"),
    Client("torchdata's StatefulDataLoader", "torchdata", "torchdata_loader", "torchdata"),
    Client("torch.compile", "torch", "compiled_step", "torch._dynamo"),
    Client("asynchronous checkpoints", "torch", "async_checkpoints"),
    Client(
        "Hydra",
        "hydra-core",
        "hydra_job",
        "hydra",
        (f"+steps={STEPS}", "hydra.run.dir=${oc.env:CHECKPOINTS}/hydra"),
    ),
    Client("datasets", "datasets", "datasets_split", "datasets"),
    Client("TensorDict", "tensordict", "tensordict_exchange", "tensordict"),
    Client("TorchRL's collectors", "torchrl", "torchrl_collector", "torchrl.collectors"),
    Client("Weights & Biases, offline", "wandb", "wandb_offline", "wandb"),
    Client("PEFT", "peft", "peft_lora", "peft"),
    Client("PyTorch Geometric", "torch-geometric", "geometric_loader", "torch_geometric"),
    Client(
        "sentence-transformers",
        "sentence-transformers",
        "sentence_transformers_trainer",
        "sentence_transformers",
    ),
)


@dataclass(frozen=True)
class Way:
    """A way to run a program on two workers.

    Args:
        name: What it is called in the table.
        is_preloaded: Whether the library is imported once and the workers are forked.
        fails: Whether a rank raises an error in the first attempt.
        nodes: How many agents share the workers.
    """

    name: str
    is_preloaded: bool = False
    fails: bool = False
    nodes: int = 1

    def commands(self, client: Client, elrun: Path) -> list[list[str]]:
        """Return the commands that are run side by side."""
        place = ["--standalone", "--nproc-per-node", "2"]
        if self.nodes > 1:
            endpoint = f"127.0.0.1:{free_port()}"
            place = ["--nnodes", str(self.nodes), "--rdzv-backend", "c10d"]
            place += ["--rdzv-endpoint", endpoint, "--rdzv-id", client.program]
        preload = ",".join(filter(None, ["torch", client.module])) if self.is_preloaded else ""
        options = [*(["--preload", preload] if preload else [])]
        options += ["--max-restarts", "1"] if self.fails else []
        program = str(PROGRAMS / f"{client.program}.py")
        return [[str(elrun), *place, *options, program, *client.arguments]] * self.nodes

    def expected(self) -> list[str]:
        first = FAILING_STEP if self.fails else 0
        return [f"rank {rank} of 2: steps {first} to {STEPS}" for rank in range(2)]


WAYS = (
    Way("plain"),
    Way("preloaded", is_preloaded=True),
    Way("restarted", fails=True),
    Way("restarted, preloaded", is_preloaded=True, fails=True),
    Way("two nodes, restarted", fails=True, nodes=2),
)


def run(client: Client, way: Way, elrun: Path, log: Path) -> str:
    """Return ``ok``, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="elrun-client-") as folder:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PET_", "TORCHELASTIC_"))},
            "CHECKPOINTS": folder,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **({"FAIL_AT_STEP": str(FAILING_STEP)} if way.fails else {}),
        }
        commands = way.commands(client, elrun)
        running = [start(command, environment) for command in commands]
        ends = [finish(process, RUN_S) for process in running]
    with log.open("a") as file:
        for command, (code, out, err) in zip(commands, ends, strict=True):
            file.write(f"\n$ {' '.join(command)}\n{out}{err}[exit code {code}]\n")
    return judge(ends, way.expected())


def judge(ends: Sequence[tuple[int, str, str]], expected: Sequence[str]) -> str:
    """Return ``ok``, or what went wrong: exit codes, or the lines that ranks printed."""
    codes = [code for code, _, _ in ends]
    if any(codes):
        return f"exit codes {codes}: {last_line(next(err for code, _, err in ends if code))}"
    text = "\n".join(out for _, out, _ in ends)
    lines = sorted(line for line in text.splitlines() if line.startswith("rank "))
    return WELL if lines == list(expected) else f"it printed {lines}"


def render(
    rows: dict[Client, dict[Way, str]], versions: dict[Client, str], day: str, before: str = ""
) -> Iterator[str]:
    """Return the table's lines, in Markdown; what went wrong stands below it.

    Args:
        rows: What was run now.
        versions: Of each library.
        day: When that was, and where.
        before: The table as it was: its rows and notes of all other clients stay.
    """
    yield f"| | version | {' | '.join(way.name for way in WAYS)} | run |"
    yield f"|---|---|{'---|' * len(WAYS)}---|"
    old = before.splitlines()
    notes: list[str] = []
    for client in CLIENTS:
        if client not in rows:
            yield from (line for line in old if line.startswith(f"| {client.name} |"))
            notes += [line for line in old if line.startswith(f"- {client.name}, ")]
            continue
        results = rows[client]
        cells = [WELL if results[way] == WELL else "FAILED" for way in WAYS]
        yield f"| {client.name} | {versions[client]} | {' | '.join(cells)} | {day} |"
        notes += [
            f"- {client.name}, {way.name}: {result}"
            for way, result in results.items()
            if result != WELL
        ]
    if notes:
        yield ""
        yield from notes


def write_page(rows: dict[Client, dict[Way, str]], versions: dict[Client, str]) -> None:
    """Put the rows between the page's markers."""
    before, rest = PAGE.read_text().split(BEGIN)
    table, after = rest.split(END)
    when = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d")
    day = f"{when}, Python {platform.python_version()}"
    lines = "\n".join(render(rows, versions, day, table))
    PAGE.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="run the clients with one of these in their name")
    only = [word.lower() for word in parser.parse_args().only]
    chosen = [c for c in CLIENTS if not only or any(word in c.name.lower() for word in only)]
    if not chosen:
        parser.error(f"no client has {' or '.join(only)} in its name")
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    elrun = Path(sys.executable).with_name("elrun")
    rows: dict[Client, dict[Way, str]] = {}
    for client in chosen:
        results = rows[client] = {}
        for way in WAYS:
            results[way] = run(client, way, elrun, LOGS / f"{client.program}.log")
            print(f"{client.name}, {way.name}: {results[way]}", flush=True)
    versions = {client: importlib.metadata.version(client.distribution) for client in chosen}
    write_page(rows, versions)
    return int(any(result != WELL for results in rows.values() for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
