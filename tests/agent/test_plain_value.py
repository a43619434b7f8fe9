"""Values that are no dataclasses, and do as if."""

import dataclasses

import pytest
from elrun.agent.worker import RunResult, WorkerSpec, WorkerState

from elrun import LaunchConfig

CONFIG = LaunchConfig(1, 1, 2, run_id="job")


def test_a_variant_of_a_config_is_made_as_of_a_dataclass():
    """Programs that were written for torchrun do so."""
    assert (3, "job") == dataclasses.replace(CONFIG, nproc_per_node=3)[2:5:2]


def test_a_variant_is_checked_as_any_other_value():
    """What exists is valid."""
    with pytest.raises(ValueError, match="nproc_per_node=0"):
        dataclasses.replace(CONFIG, nproc_per_node=0)


def test_the_fields_can_be_listed():
    """By all functions of dataclasses."""
    names = [field.name for field in dataclasses.fields(RunResult)]

    assert ["state", "return_values", "failures", "report"] == names
    assert "job" == dataclasses.asdict(CONFIG)["run_id"]


def test_a_spec_keeps_what_was_not_replaced():
    """Its constructor is called anew."""
    spec = WorkerSpec("trainer", 2, None, entrypoint="true", max_restarts=7)

    assert (4, 7) == (
        dataclasses.replace(spec, local_world_size=4).local_world_size,
        dataclasses.replace(spec, local_world_size=4).max_restarts,
    )


def test_values_are_equal_by_what_they_hold():
    """And unequal to anything else."""
    one, other = RunResult(WorkerState.HEALTHY), RunResult(WorkerState.FAILED)

    assert one == RunResult(WorkerState.HEALTHY)
    assert one != other
    assert one != WorkerState.HEALTHY


def test_a_value_shows_what_it_holds():
    """For people who debug."""
    shown = repr(RunResult(WorkerState.FAILED, report=None))

    assert shown.startswith("RunResult(state=<WorkerState.FAILED: 'FAILED'>, return_values={}")
