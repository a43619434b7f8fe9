"""What each rank used, as curves: thinned, so that a page of a long job stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...agent.output.history_file import SAMPLE
from ...rendezvous.named_tuple import NamedTuple
from .records import NodeRecord, number_in

POINTS = 240
"""How many points a curve has at most."""

_CPU, _MEMORY, _OUTPUT = range(3)
_MOST_DIGITS = 9
_LONGEST_GAP = 4.0  # times the usual pause between two samples: then the curve is broken


class Curve(NamedTuple):
    """What a rank used over time.

    Args:
        points: Times in seconds since the epoch, with values; a value of None breaks the curve.
    """

    points: Sequence[tuple[float, float | None]]

    @property
    def values(self) -> list[float]:
        """The values without the breaks."""
        return [value for _, value in self.points if value is not None]


class RankCurves(NamedTuple):
    """What one rank of one node used.

    Args:
        cpu: In percent of one CPU.
        memory: In bytes.
        output: In bytes a second; None where elrun does not carry its output.
        gpu: In percent; None: it is not known.
        gpu_memory: In bytes; None: it is not known.
    """

    rank: int
    node: str
    cpu: Curve
    memory: Curve
    output: Curve | None
    gpu: Curve | None
    gpu_memory: Curve | None


def curves_of(record: NodeRecord, shift_s: float = 0.0, points: int = POINTS) -> list[RankCurves]:
    """Return the curves of a node's ranks.

    Args:
        shift_s: Added to the times of its clock.
        points: How many points a curve has at most.
    """
    found = [each for line in record.history for each in _samples_in(line)]
    samples = [{**each, "at": each["at"] + shift_s} for each in found]
    gpu_of = _gpu_of_ranks(record)
    sampled = (each["ranks"] for each in samples if each["kind"] == SAMPLE)
    ranks = {rank for each in sampled for rank in each if _is_rank(rank)}
    return [
        _of_rank(samples, int(rank), record.report["node"], gpu_of.get(int(rank)), points)
        for rank in sorted(ranks, key=int)
    ]


def _is_rank(name: str) -> bool:
    return name.isdecimal() and len(name) <= _MOST_DIGITS


def _samples_in(line: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what ranks have used: at their start that is no CPU time, and before it nothing."""
    ranks = line.get("ranks")
    if line["kind"] == SAMPLE and isinstance(ranks, dict):
        yield line
    if line.get("event") == "running" and isinstance(ranks, list):
        for used in (None, 0.0):
            yield {**line, "ranks": {str(rank): [used, None, None] for rank in ranks}}


def _of_rank(
    samples: Sequence[Mapping[str, Any]], rank: int, node: str, gpu: int | None, points: int
) -> RankCurves:
    def of_process(column: int) -> list[tuple[float, float | None]]:
        return [(each["at"], _number(each["ranks"].get(str(rank)), column)) for each in samples]

    def of_gpu(column: int) -> Curve | None:
        if gpu is None:
            return None
        found = [(each["at"], _number(_at(each.get("gpus"), gpu), column)) for each in samples]
        return _thinned(found, points, max) if any(each[1] is not None for each in found) else None

    output = of_process(_OUTPUT)
    is_carried = any(value is not None for _, value in output)
    cpu = [(at, None if rate is None else 100 * rate) for at, rate in _rates(of_process(_CPU))]
    return RankCurves(
        rank,
        node,
        _thinned(cpu, points, _mean),
        _thinned(of_process(_MEMORY), points, max),
        _thinned(_rates(output), points, _mean) if is_carried else None,
        of_gpu(0),
        of_gpu(1),
    )


def _rates(
    totals: Sequence[tuple[float, float | None]],
) -> list[tuple[float, float | None]]:
    """Return how fast a total grows; where it shrinks, another process has begun."""
    found: list[tuple[float, float | None]] = []
    for (before_at, before), (at, total) in pairwise(totals):
        rate = None
        if before is not None and total is not None and total >= before and at > before_at:
            rate = (total - before) / (at - before_at)
        found.append((at, rate))
    return found


def _thinned(
    points: Sequence[tuple[float, float | None]],
    most: int,
    of_many: Callable[[Sequence[float]], float],
) -> Curve:
    """Return a curve with few points: one for each of so many equal parts of its time."""
    known = [(at, value) for at, value in points if value is not None]
    if not known:
        return Curve(())
    begin, end = known[0][0], known[-1][0]
    width = max(end - begin, 1e-9) / most
    parts: dict[int, list[tuple[float, float]]] = {}
    for at, value in known:
        parts.setdefault(min(most - 1, int((at - begin) / width)), []).append((at, value))
    found: list[tuple[float, float | None]] = []
    for before, part in zip([None, *parts], parts.values(), strict=False):
        if before is not None and _is_gap(parts[before][-1][0], part[0][0], points, width):
            found.append((part[0][0], None))
        at = part[len(part) // 2][0]
        found.append((at, of_many([value for _, value in part])))
    return Curve(found)


def _is_gap(
    before_at: float, at: float, points: Sequence[tuple[float, float | None]], width: float
) -> bool:
    usual = (points[-1][0] - points[0][0]) / max(1, len(points) - 1)
    return at - before_at > _LONGEST_GAP * max(usual, width)


def _gpu_of_ranks(record: NodeRecord) -> dict[int, int]:
    """Return which GPU each rank uses as a rule: the one with the number of its local rank."""
    found: dict[int, int] = {}
    for attempt in record.report["attempts"]:
        found |= {worker["rank"]: worker["local_rank"] for worker in attempt["workers"]}
    return found


def _number(row: Any, column: int) -> float | None:
    return number_in(_at(row, column))


def _at(row: Any, index: int) -> Any:
    return row[index] if isinstance(row, list) and 0 <= index < len(row) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def path_of(
    curve: Curve, span: tuple[float, float], top: float, size: tuple[int, int] = (300, 40)
) -> str:
    """Return a curve as the path of an SVG.

    Args:
        span: When the axis begins and ends.
        top: The value at the upper edge.
        size: Width and height of the chart.
    """
    return "".join(_steps(curve, span, top, size))


def _steps(
    curve: Curve, span: tuple[float, float], top: float, size: tuple[int, int]
) -> Iterator[str]:
    width, height = size
    length = max(span[1] - span[0], 1e-9)
    letter = "M"
    for at, value in curve.points:
        if value is None:
            letter = "M"
            continue
        x = min(max((at - span[0]) / length, 0.0), 1.0) * width
        y = height - 1 - min(max(value / top if top else 0.0, 0.0), 1.0) * (height - 2)
        yield f"{letter}{x:.1f} {y:.1f}"
        letter = "L"
    if len(curve.values) == 1:
        yield "h1"
