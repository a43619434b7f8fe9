"""Judges a history by what its workers have written, and by what was left when it was over."""

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

SAVE_EVERY = 5
"""Steps between two checkpoints, as ``in_step.py`` makes them."""


@dataclass(frozen=True)
class Ending:
    """How an agent ended.

    Args:
        agent: Its name.
        code: Its exit code; minus the number of the signal that killed it.
        may_be: The codes with which it may end, after what was done to it.
    """

    agent: str
    code: int
    may_be: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Span:
    """The steps that one worker group made together."""

    first: int
    last: int
    began_at: float
    ended_at: float


def verdicts(lines, endings, left):
    """Return every promise that was broken, each as a sentence.

    Args:
        lines: The journal of ``in_step.py``: each step of each worker.
        endings: How each agent ended.
        left: What was left, each thing in words.
    """
    spans = sorted(map(span_of, rounds_of(lines)), key=lambda span: span.began_at)
    return [
        *(f"round {number} made a step twice or left one out" for number in disordered(lines)),
        *torn(spans),
        *(
            f"{each.agent} ended with {each.code}"
            for each in endings
            if each.code not in each.may_be
        ),
        *(f"left behind: {thing}" for thing in left),
    ]


def rounds_of(lines):
    """Return the lines of each worker group."""
    rounds = defaultdict(list)
    for line in lines:
        rounds[tuple(line["round"])].append(line)
    return list(rounds.values())


def span_of(lines):
    """Return what one worker group did.

    A step is made while all workers are in it: from the last one's begin to the first one's end. A
    worker that stands still may write later that it has ended, which harms nothing.
    """
    steps = defaultdict(list)
    for line in lines:
        steps[line["step"]].append(line)
    return Span(
        min(steps),
        max(steps),
        min(max(line["start"] for line in each) for each in steps.values()),
        max(min(line["end"] for line in each) for each in steps.values()),
    )


def disordered(lines):
    """Yield the numbers of the rounds in which a worker's steps are not 1, 2, 3 and so on."""
    for number, round_lines in enumerate(rounds_of(lines)):
        made = Counter((line["rank"], line["step"]) for line in round_lines)
        steps = {step for _, step in made}
        if max(made.values()) > 1 or steps != set(range(min(steps), max(steps) + 1)):
            yield number


def torn(spans):
    """Yield what is wrong between two rounds, one after the other."""
    if spans and spans[0].first != 1:
        yield f"the first step was {spans[0].first}"
    for before, after in itertools.pairwise(spans):
        if after.began_at < before.ended_at:
            yield (
                f"two rounds trained at once: one made steps {before.first} to {before.last} until "
                f"{before.ended_at:.3f} s, the next began with {after.first} at "
                f"{after.began_at:.3f} s"
            )
        if after.first <= before.last - SAVE_EVERY:
            yield f"steps were lost: after {before.last} came {after.first}, of a checkpoint before"
        if after.first > before.last + 1:
            yield f"steps were left out: after {before.last} came {after.first}"
