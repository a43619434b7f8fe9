"""What ranks used, as curves that stay small."""

import pytest
from elrun.launcher.report.curves import POINTS, Curve, curves_of, path_of
from elrun.launcher.report.records import NodeRecord
from run_kit import START, attempt, event, report, sample

GIB = 1 << 30


def record(*lines):
    return NodeRecord("", report(attempt(0, 99)), lines)


def test_cpu_is_a_rate_and_memory_a_size():
    """In percent of one CPU; from the start of the workers on."""
    (found,) = curves_of(
        record(
            event(0, "running", ranks=[3]),
            sample(10, {"3": [5.0, GIB, 100]}),
            sample(20, {"3": [15.0, 2 * GIB, 300]}),
        )
    )

    assert (3, "n0") == (found.rank, found.node)
    assert [(START + 10, 50.0), (START + 20, 100.0)] == found.cpu.points
    assert [GIB, 2 * GIB] == found.memory.values
    assert [20.0] == found.output.values


def test_what_elrun_does_not_carry_has_no_curve():
    """The output of a job on a terminal; GPUs where there are none."""
    (found,) = curves_of(record(sample(10, {"0": [5.0, GIB, None]})))

    assert (None, None, None) == (found.output, found.gpu, found.gpu_memory)


def test_a_rank_has_the_gpu_of_its_local_rank():
    """As nearly every job has it; one that does not answer breaks the curve."""
    lines = [
        sample(at, {"0": [0, 1, None], "1": [0, 1, None]}, gpus=gpus)
        for at, gpus in ((5, [[10, GIB], [90, GIB]]), (10, [[20, GIB], None]))
    ]

    found = curves_of(record(*lines))

    assert [[10, 20], [90]] == [each.gpu.values for each in found]


def test_another_attempt_begins_anew():
    """Its processes have used nothing yet: that is no negative rate."""
    lines = [
        sample(at, {"0": [cpu, GIB, None]}) for at, cpu in ((5, 5), (10, 10), (15, 1), (20, 6))
    ]

    (found,) = curves_of(record(*lines))

    assert [100.0, 100.0] == found.cpu.values


def test_a_pause_breaks_the_curve():
    """A node that was out of the job for an hour has used nothing that could be drawn."""
    times = [*range(0, 100, 5), *range(4_000, 4_100, 5)]

    (found,) = curves_of(record(*(sample(at, {"0": [at, GIB, None]}) for at in times)))

    assert 1 == [value for _, value in found.memory.points].count(None)


@pytest.mark.integration  # many samples
def test_a_day_has_as_many_points_as_an_hour():
    """A peak of memory is kept."""
    lines = [
        sample(5 * number, {"0": [number, 7 * GIB if number == 9_999 else GIB, None]})
        for number in range(17_280)
    ]

    (found,) = curves_of(record(*lines))

    assert len(found.memory.points) <= POINTS
    assert 7 * GIB == max(found.memory.values)
    assert 20.0 == pytest.approx(found.cpu.values[100])


@pytest.mark.parametrize(
    "row", [None, [], "x", 5, [None] * 3, ["x"] * 3, [True] * 3, [1e300] * 3, [float("nan")] * 3]
)
def test_rows_of_nonsense_are_no_curve(row):
    """A file may be anybody's."""
    for each in curves_of(record(sample(1, {"0": row, "x": [1]}), sample(2, {"0": row}))):
        assert ([], []) == (each.cpu.values, each.memory.values)


def test_a_path_stays_within_its_chart():
    """From the left edge to the right one, from the bottom to the top."""
    curve = Curve([(0.0, 0.0), (5.0, None), (10.0, 100.0), (20.0, 300.0)])

    assert "M0.0 39.0M150.0 1.0L300.0 1.0" == path_of(curve, (0.0, 20.0), 100.0)
    assert "M0.0 39.0h1" == path_of(Curve([(0.0, 0.0)]), (0.0, 0.0), 0.0)
