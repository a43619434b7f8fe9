"""Values that are no dataclasses, and do as if."""

import copy
import dataclasses
import pickle

import pytest
from elrun.agent.workers.worker import RunResult, WorkerSpec, WorkerState

from elrun import LaunchConfig

CONFIG = LaunchConfig(1, 1, 2, run_id="job")


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


def test_a_variant_of_a_config_is_made_as_of_a_dataclass():
    """Programs that were written for torchrun do so."""
    variant = dataclasses.replace(CONFIG, nproc_per_node=3)

    assert (3, "job") == (variant.nproc_per_node, variant.run_id)
    assert variant == CONFIG.__replace__(nproc_per_node=3)


def test_a_variant_is_checked_as_any_other_value():
    """What exists is valid."""
    with pytest.raises(ValueError, match="nproc_per_node=0"):
        dataclasses.replace(CONFIG, nproc_per_node=0)


def test_the_fields_can_be_listed():
    """By all functions of dataclasses."""
    names = [field.name for field in dataclasses.fields(RunResult)]

    assert ["state", "return_values", "failures", "report"] == names
    assert "job" == dataclasses.asdict(CONFIG)["run_id"]


@dataclasses.dataclass
class Extended(LaunchConfig):
    """As users of torch extend its config."""

    budget: float = 1.5


class Named(LaunchConfig):
    """The same without a decorator."""

    def __init__(self, name, **settings):
        super().__init__(1, 1, 1, **settings)
        self.name = name


def test_a_config_is_a_dataclass_to_whoever_asks():
    """Class and value; it is no tuple."""
    assert dataclasses.is_dataclass(LaunchConfig)
    assert dataclasses.is_dataclass(CONFIG)
    assert CONFIG != tuple(vars(CONFIG).values())
    with pytest.raises(TypeError, match="not iterable"):
        iter(CONFIG)


def test_a_field_s_default_is_the_constructor_s():
    """Programs that fill forms from them look."""
    defaults = {each.name: each.default for each in dataclasses.fields(LaunchConfig)}

    assert dataclasses.MISSING is defaults["min_nodes"]
    assert (3, "spawn") == (defaults["max_restarts"], defaults["start_method"])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, through_pickle])
@pytest.mark.parametrize(
    "value", [CONFIG, Extended(1, 1, 2, budget=2.5), Named("x"), RunResult(WorkerState.HEALTHY)]
)
def test_a_value_can_be_copied(duplicate, value):
    """And sent to another process."""
    assert value == duplicate(value)


def test_a_dataclass_may_extend_a_config():
    """Its fields come after, and what it holds is checked as ever."""
    config = Extended(1, 1, 2, role="trainer", budget=2.5)

    assert (2, "trainer", "standalone", 2.5) == (
        config.nproc_per_node,
        config.role,
        config.rdzv_backend,
        config.budget,
    )
    assert "budget" == dataclasses.fields(Extended)[-1].name
    assert 4 == dataclasses.replace(config, nproc_per_node=4).nproc_per_node
    assert 2.5 == config.to_launch().budget
    with pytest.raises(ValueError, match="nproc_per_node=0"):
        Extended(1, 1, 0)


def test_a_class_may_extend_a_config():
    """Its own attributes are launched along."""
    assert ("x", 7) == (
        Named("x", max_restarts=7).to_launch().name,
        Named("x", max_restarts=7).to_launch().max_restarts,
    )


def test_a_config_as_a_mapping_makes_another():
    """By ``vars`` or ``asdict``."""
    assert CONFIG == LaunchConfig(**vars(CONFIG)) == LaunchConfig(**dataclasses.asdict(CONFIG))


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
