"""The names that the front door offers."""

import elrun.launcher
import pytest
from elrun.launcher.cli import main
from elrun.launcher.launch import elastic_launch, launch_agent
from elrun.launcher.library import (
    config_from_args,
    determine_local_world_size,
    get_args_parser,
    parse_args,
    parse_min_max_nnodes,
    run,
)
from elrun.launcher.plan.config import LaunchConfig


def test_public_names_are_at_the_front_door():
    """Each is what its module defines."""
    expected = [
        LaunchConfig,
        config_from_args,
        determine_local_world_size,
        elastic_launch,
        get_args_parser,
        launch_agent,
        main,
        parse_args,
        parse_min_max_nnodes,
        run,
    ]

    assert expected == [getattr(elrun.launcher, name) for name in elrun.launcher.__all__]


def test_public_names_are_listed():
    """For completion."""
    assert set(elrun.launcher.__all__) <= set(dir(elrun.launcher))


def test_another_name_is_an_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        elrun.launcher.nosuch  # noqa: B018  asking is the test
