"""The fault that a program has on request, and the line that it prints at its end."""

from __future__ import annotations

import os


def fail_once(step: int) -> None:
    """Raise an error on the last rank, in the first attempt, at the step FAIL_AT_STEP."""
    is_first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    is_last_rank = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    if is_first and is_last_rank and step == int(os.environ.get("FAIL_AT_STEP", "-1")):
        raise RuntimeError(f"asked to fail at step {step}")


def report(*, world_size: int, first_step: int, last_step: int) -> None:
    """Print what a rank did: one write, so that ranks don't mix."""
    rank = os.environ["RANK"]
    line = f"rank {rank} of {world_size}: steps {first_step} to {last_step}\n"
    os.write(1, line.encode())
