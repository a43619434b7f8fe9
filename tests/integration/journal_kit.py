"""What the journal of ``in_step.py`` says: which rounds made which steps, and if any was lost."""

import itertools
import json
from dataclasses import dataclass

SAVE_EVERY = 5  # as the program does


@dataclass(frozen=True)
class Steps:
    """The steps that one worker group made together."""

    first: int
    last: int
    began_at: float
    ended_at: float
    workers: int


def read_steps(folder):
    """Return the steps of each round in turn, all in good order."""
    rounds = {}
    for line in read_lines(folder):
        rounds.setdefault(tuple(line["round"]), []).append(line)
    steps = sorted(map(_steps_of, rounds.values()), key=lambda each: each.began_at)
    assert 1 == steps[0].first
    for before, after in itertools.pairwise(steps):
        assert before.ended_at <= after.began_at, "two rounds ran at the same time"
        assert before.last - SAVE_EVERY < after.first <= before.last + 1, "steps were lost"
    return steps


def read_lines(folder):
    """Return what the journal has, but for a line that is being written."""
    lines = (folder / "journal").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _steps_of(lines):
    numbers = sorted({line["step"] for line in lines})
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    begins, ends = ([line[at] for line in lines] for at in ("start", "end"))
    workers = len({line["rank"] for line in lines})
    return Steps(numbers[0], numbers[-1], min(begins), max(ends), workers)
