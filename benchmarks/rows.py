"""What the table is made of: rows, the cases that fill them, and how thoroughly to measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Figure = float | str
"""What one run gave: a number, or in words why there is none."""

Figures = Mapping[str, Figure]
"""By row."""

Samples = Mapping[str, Sequence[Figure]]
"""The figures of one row, by launcher."""


class FailedError(Exception):
    """There is no figure; the message says why, in the words of the table."""


@dataclass(frozen=True)
class Launcher:
    """A command that starts workers.

    Args:
        name: What the table calls it.
        program: How the command begins.
        environment: Variables it gets beside this process's own.
    """

    name: str
    program: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure.

    Args:
        is_quick: Whether what takes long is left out.
        runs: Runs of each launcher, at most.
        watch_s: How long the idle agent is watched.
        lines: Lines whose way to the console is timed, for each worker.
        restarts: Restarts in a row that elrun has to do in P13.
        give_up_s: How long to wait for what may never come.
    """

    is_quick: bool
    runs: int
    watch_s: float
    lines: int
    restarts: int
    give_up_s: float


FULL = Plan(is_quick=False, runs=5, watch_s=10, lines=100, restarts=40, give_up_s=25)
QUICK = Plan(is_quick=True, runs=2, watch_s=3, lines=25, restarts=5, give_up_s=5)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        key: Name of the figure.
        work: What is measured, and in which unit.
        goal: What elrun wants to reach.
        digits: Digits after the point.
        is_share: Whether it counts successes: runs are averaged, and a ratio says nothing.
        is_detail: Whether it stands in another table than the first one.
    """

    key: str
    work: str
    goal: str = ""
    digits: int = 3
    is_share: bool = False
    is_detail: bool = False


@dataclass(frozen=True)
class Limit:
    """How often something is run at most.

    Args:
        full: In a full run.
        quick: In a quick one.
    """

    full: int
    quick: int

    def of(self, plan: Plan) -> int:
        """Return how often it is run."""
        return min(plan.runs, self.quick if plan.is_quick else self.full)


@dataclass(frozen=True)
class Case:
    """A run and the rows that it fills.

    Args:
        rows: The rows.
        run: Runs one launcher once.
        launchers: Who is measured, elrun first.
        limit: How often each of them is run.
        limits: How often some are, by name.
    """

    rows: tuple[Row, ...]
    run: Callable[[Launcher, Plan], Figures]
    launchers: tuple[Launcher, ...]
    limit: Limit = Limit(5, 2)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def runs(self, launcher: Launcher, plan: Plan) -> int:
        """Return how often a launcher is run."""
        return self.limits.get(launcher.name, self.limit).of(plan)
