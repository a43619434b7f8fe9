"""How to launch, as one value."""

import dataclasses
import inspect
import re

import pytest
from elrun.agent.output.specs import DefaultLogsSpecs
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.launch import elastic_launch
from elrun.launcher.plan.config import LaunchConfig


@pytest.fixture(autouse=True)
def _no_timeout_variable(monkeypatch):
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)


def test_defaults_are_torch_s_where_they_make_sense():
    """Three restarts, 0.1 s, spawn; the backend is whatever one node or several need."""
    config = LaunchConfig(1, 1, 2)

    assert (3, 0.1, "spawn", 30, "default_role") == (
        config.max_restarts,
        config.monitor_interval,
        config.start_method,
        config.shutdown_timeout,
        config.role,
    )
    assert ("SIGTERM,SIGINT,SIGHUP,SIGQUIT", "null") == (
        config.signals_to_handle,
        config.event_log_handler,
    )


def test_fields_stand_in_torch_s_order():
    """Some callers give them by position."""
    expected = """
        min_nodes max_nodes nproc_per_node logs_specs run_id role rdzv_endpoint rdzv_backend
        rdzv_configs rdzv_timeout max_restarts monitor_interval start_method
        log_line_prefix_template metrics_cfg local_addr event_log_handler numa_options
        signals_to_handle duplicate_stdout_filters duplicate_stderr_filters virtual_local_rank
        shutdown_timeout exit_barrier_timeout preload restart_rules report
        hang_timeout hang_log_pattern forward_signals history metrics_port
        metrics_file timeout health_check health_check_timeout
        preempt_signal grace signal_to
    """
    assert expected.split() == [each.name for each in dataclasses.fields(LaunchConfig)]
    assert expected.split() == list(inspect.signature(LaunchConfig).parameters)
    assert expected.split() == list(vars(LaunchConfig(1, 1, 1)))


@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        ({}, "standalone"),
        ({"rdzv_endpoint": "localhost:0"}, "c10d"),
        ({"max_nodes": 2, "rdzv_endpoint": "n1:29400"}, "c10d"),
        ({"max_nodes": 2}, "c10d"),
        ({"rdzv_backend": "static", "rdzv_endpoint": "n1:1"}, "static"),
        ({"rdzv_backend": "c10d"}, "c10d"),
    ],
)
def test_one_node_that_meets_nobody_needs_no_backend(settings, backend):
    """Unless one is asked for."""
    config = LaunchConfig(**{"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 1, **settings})

    assert backend == config.rdzv_backend


def test_a_config_may_be_changed():
    """As torch's: accelerate's notebook_launcher does so."""
    config = LaunchConfig(1, 1, 1)

    config.max_restarts = 5
    config.numa_options = None

    assert (5, None) == (config.max_restarts, vars(config)["numa_options"])


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("max_restarts", -1, "max_restarts=-1: give 0 or more"),
        ("nproc_per_node", 0, "nproc_per_node=0: give at least 1 worker"),
        ("start_method", "thread", "start_method='thread': give one of spawn, fork, forkserver"),
        ("signals_to_handle", "SIGFOO", "signals_to_handle='SIGFOO': SIGFOO is no signal of this"),
    ],
)
def test_what_was_changed_is_checked_at_the_launch(name, value, sentence):
    """Before anything starts, and as a ValueError, like the rest."""
    config = LaunchConfig(1, 1, 1)
    setattr(config, name, value)

    with pytest.raises(ValueError, match=re.escape(sentence)):
        elastic_launch(config, "true")()


@pytest.mark.parametrize(("given", "run_id"), [(4711, "4711"), (0, "0"), (None, ""), ("a", "a")])
def test_a_run_id_may_be_a_number(given, run_id):
    """A scheduler's number of the job, say; torch takes any value, and None stands for none."""
    made = LaunchConfig(1, 1, 1, run_id=given)
    changed = LaunchConfig(1, 1, 1)
    changed.run_id = given

    assert (run_id, run_id) == (made.run_id, changed.to_launch().run_id)


@pytest.mark.parametrize(
    ("changes", "backend"),
    [
        ({"max_nodes": 2, "rdzv_endpoint": "n1:29400"}, "c10d"),
        ({"rdzv_endpoint": "n1:29400"}, "c10d"),
        ({}, "standalone"),
        ({"rdzv_backend": "static", "rdzv_endpoint": "n1:29400"}, "static"),
    ],
)
def test_a_backend_that_nobody_asked_for_is_chosen_anew(changes, backend):
    """By what the config says when it is launched, or when a variant is made."""
    config = LaunchConfig(1, 1, 1)
    variant = dataclasses.replace(config, **changes)
    for name, value in changes.items():
        setattr(config, name, value)

    assert (backend, backend) == (config.to_launch().rdzv_backend, variant.rdzv_backend)


def test_a_launch_changes_no_config():
    """It settles a copy: the same config may be launched again."""
    config = LaunchConfig(1, 1, 1)
    config.logs_specs = config.shutdown_timeout = None

    launched = config.to_launch()

    assert (DefaultLogsSpecs(), 30) == (launched.logs_specs, launched.shutdown_timeout)
    assert (None, None) == (config.logs_specs, config.shutdown_timeout)


def test_a_setting_that_was_changed_later_beats_the_legacy_timeout():
    """It was the last word."""
    config = LaunchConfig(1, 1, 1, rdzv_timeout=60)

    config.rdzv_configs["timeout"] = 5

    assert {"timeout": 5} == config.to_launch().rdzv_configs


def test_the_legacy_timeout_becomes_a_setting_of_the_backend():
    """As in torch, it beats the setting of the same name; the caller's mapping is left alone."""
    given = {"timeout": 1, "other": 2}

    config = LaunchConfig(1, 1, 1, rdzv_configs=given, rdzv_timeout=60)

    assert ({"timeout": 60, "other": 2}, {"timeout": 1, "other": 2}) == (config.rdzv_configs, given)


def test_no_timeout_is_made_up():
    """A setting that nobody gave is the backend's to choose."""
    assert {} == LaunchConfig(1, 1, 1).rdzv_configs


def test_output_goes_to_the_console_by_default():
    """None stands for the default layout."""
    assert DefaultLogsSpecs() == LaunchConfig(1, 1, 1, logs_specs=None).logs_specs


@pytest.mark.parametrize(("given", "expected"), [(None, 12.5), (3, 3), (0, 0)])
def test_the_shutdown_timeout_s_default_is_torch_s_variable(monkeypatch, given, expected):
    """A value in the program beats it."""
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "12.5")

    assert expected == LaunchConfig(1, 1, 1, shutdown_timeout=given).shutdown_timeout


@pytest.mark.parametrize(("given", "expected"), [(None, 12.5), (3, 3), (0, 0)])
def test_the_exit_barrier_s_default_is_torch_s_variable(monkeypatch, given, expected):
    """A value in the program beats it."""
    monkeypatch.setenv("TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT", "12.5")

    assert expected == LaunchConfig(1, 1, 1, exit_barrier_timeout=given).exit_barrier_timeout


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"min_nodes": 0}, "min_nodes=0: a job takes at least 1 node"),
        ({"min_nodes": 3, "max_nodes": 2}, "max_nodes=2 is less than min_nodes=3"),
        ({"nproc_per_node": 0}, "nproc_per_node=0: give at least 1 worker"),
        ({"nproc_per_node": "gpu"}, "nproc_per_node='gpu': give a whole number"),
        ({"max_restarts": None}, "max_restarts=None: give a whole number"),
        ({"min_nodes": 1.0}, "min_nodes=1.0: give a whole number"),
        ({"monitor_interval": "1"}, "monitor_interval='1': give a number of seconds"),
        ({"role": None}, "role=None: give a text"),
        ({"max_restarts": -1}, "max_restarts=-1: give 0 or more"),
        ({"monitor_interval": 0}, "monitor_interval=0: give more than 0 seconds"),
        ({"monitor_interval": float("nan")}, "monitor_interval=nan: give more than 0 seconds"),
        (
            {"start_method": "thread"},
            "start_method='thread': give one of spawn, fork, forkserver",
        ),
        ({"shutdown_timeout": -1}, "shutdown_timeout=-1: give 0 seconds or more"),
        ({"exit_barrier_timeout": -1}, "exit_barrier_timeout=-1: give 0 seconds or more"),
        ({"preload": "torch"}, "preload='torch': give a list of names of modules"),
        ({"preload": ["a b"]}, "preload=['a b']: give a list of names of modules"),
        (
            {"max_nodes": 2, "rdzv_backend": "standalone"},
            "max_nodes=2: rdzv_backend='standalone' is for one node",
        ),
        (
            {"max_nodes": 2, "rdzv_backend": "static"},
            "rdzv_backend='static' takes a fixed number of nodes; use 'c10d' for a range",
        ),
        (
            {"signals_to_handle": "SIGFOO"},
            "signals_to_handle='SIGFOO': SIGFOO is no signal of this system",
        ),
    ],
)
def test_a_config_that_exists_is_valid(settings, sentence):
    """What is wrong is named, with its value."""
    with pytest.raises(ValueError) as caught:
        LaunchConfig(**{"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 1, **settings})

    assert sentence == str(caught.value)


def test_a_role_may_be_empty():
    """As in torch; TorchX names none."""
    assert "" == LaunchConfig(1, 1, 1, role="").role


def test_an_environment_is_a_snapshot(monkeypatch):
    """What changes later changes nothing that was read."""
    monkeypatch.setenv("LOGLEVEL", "INFO")
    environment = Environment.current()

    monkeypatch.setenv("LOGLEVEL", "ERROR")

    assert "INFO" == environment.log_level
