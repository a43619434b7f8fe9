"""What is refused when a job is launched, before anything starts."""

import traceback

import pytest
from elrun.launcher.launch import launch_agent
from elrun.launcher.library import parse_args, run
from elrun.launcher.plan.config import LaunchConfig

from elrun import UsageError


def changed(**settings):
    """Return a config that was valid when it was made."""
    config = LaunchConfig(1, 1, 1)
    vars(config).update(settings)
    return config


def refusal(attempt):
    with pytest.raises(UsageError) as caught:
        attempt()
    return caught.value


@pytest.mark.parametrize(
    "settings",
    [
        {"max_restarts": -1},
        {"nproc_per_node": "2"},
        {"signals_to_handle": "SIGFOO"},
        {"rdzv_backend": "nosuch"},
        {"rdzv_configs": {"join_timeout": "soon"}},
        {"rdzv_backend": "static", "rdzv_configs": {"rank": "first"}},
        {"rdzv_backend": "etcd-v3", "rdzv_configs": {"cacert": "/nowhere"}},
        {"rdzv_backend": "static", "rdzv_configs": {"rank": 7}},
        {"max_nodes": 2, "min_nodes": 2, "rdzv_backend": "c10d"},
    ],
    ids=repr,
)
def test_a_value_that_became_wrong_later_is_told_once(settings):
    """One traceback: what elrun has converted on the way says nothing more."""
    error = refusal(lambda: launch_agent(changed(**settings), "true", []))

    assert 1 == "".join(traceback.format_exception(error)).count("Traceback")


def test_what_a_namespace_asks_for_is_refused_once():
    """By the functions that have torchrun's names, too."""
    args = parse_args(["--nnodes=1", "nosuch.py"])

    error = refusal(lambda: run(args))

    assert 1 == "".join(traceback.format_exception(error)).count("Traceback")
