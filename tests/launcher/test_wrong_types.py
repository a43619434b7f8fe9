"""Values of a wrong type from a user's program: one sentence names the value and what is right."""

import re

import pytest
from elrun.agent import DefaultLogsSpecs, LocalElasticAgent, WorkerSpec, start_processes, to_map
from elrun.rendezvous import (
    RendezvousHandlerRegistry,
    RendezvousParameters,
    get_rendezvous_handler,
)

from elrun import LaunchConfig, elastic_launch, launch_agent

WRONG = (None, 5, 1.5, "x", b"x", [1], ["a", 1], {"a": 1}, {1: 2}, object(), str)
"""Each is right in few places: these stand beside a name in the tables below."""

FEW = dict.fromkeys(("min_nodes", "max_nodes", "nproc_per_node"), 1)
WHOLE = ("a whole number", (5,))
SECONDS = ("a number of seconds", (5, 1.5))
TEXT = ("a text", ("x",))
TEXT_OR_NONE = ("a text", (None, "x"))
WORDS = ("a list of words", (None, {"a": 1}))
SETTINGS = ("", (None, {"a": 1}))  # its keys have to be names, too

CONFIG = {
    "min_nodes": WHOLE,
    "max_nodes": WHOLE,
    "nproc_per_node": WHOLE,
    "max_restarts": WHOLE,
    "logs_specs": ("a LogsSpecs", (None,)),
    "role": TEXT,
    "rdzv_endpoint": TEXT_OR_NONE,
    "rdzv_backend": TEXT_OR_NONE,
    "rdzv_configs": SETTINGS,
    "metrics_cfg": SETTINGS,
    "rdzv_timeout": SECONDS,
    "monitor_interval": SECONDS,
    "shutdown_timeout": ("a number of seconds", (None, 5, 1.5)),
    "exit_barrier_timeout": ("a number of seconds", (None, 5, 1.5)),
    "start_method": TEXT,
    "log_line_prefix_template": TEXT_OR_NONE,
    "local_addr": TEXT_OR_NONE,
    "event_log_handler": TEXT,
    "numa_options": ("NumaOptions", (None,)),
    "restart_rules": ("RestartRules", (None,)),
    "report": TEXT_OR_NONE,
    "metrics_port": TEXT_OR_NONE,
    "metrics_file": TEXT_OR_NONE,
    "hang_timeout": ("a number of seconds", (None, 5, 1.5)),
    "timeout": ("a number of seconds", (None, 5, 1.5)),
    "health_check": TEXT_OR_NONE,
    "health_check_timeout": SECONDS,
    "hang_log_pattern": TEXT_OR_NONE,
    "signals_to_handle": TEXT,
    "forward_signals": TEXT,
    "preempt_signal": TEXT,
    "signal_to": TEXT,
    "grace": ("a number of seconds", (None, 5, 1.5)),
    "duplicate_stdout_filters": WORDS,
    "duplicate_stderr_filters": WORDS,
    "virtual_local_rank": ("True or False", ()),
    "history": ("True or False", ()),
    "preload": ("a list of names of modules", (None, {"a": 1})),
}
SPEC = {
    "role": TEXT,
    "local_world_size": WHOLE,
    "max_restarts": WHOLE,
    "monitor_interval": SECONDS,
}
PARAMETERS = {
    "backend": TEXT,
    "endpoint": TEXT_OR_NONE,
    "local_addr": TEXT_OR_NONE,
    "min_nodes": WHOLE,
    "max_nodes": WHOLE,
}
LAYOUT = {
    "log_dir": ("a path", (None, "x")),
    "redirects": ("a Std, or a dict of a Std by local rank", (5, {"a": 1}, {1: 2})),
    "tee": ("a Std, or a dict of a Std by local rank", (5, {"a": 1}, {1: 2})),
    "local_ranks_filter": ("a set of local ranks", (None, [1], ["a", 1], {"a": 1}, {1: 2})),
}
PROCESSES = {
    "entrypoint": ("a command or a function", ("x", str)),
    "args": ("a dict", ({"a": 1}, {1: 2})),
    "envs": ("a dict", ({"a": 1}, {1: 2})),
    "logs_specs": ("a LogsSpecs", ()),
    "duplicate_stdout_filters": WORDS,
    "duplicate_stderr_filters": WORDS,
}
LAUNCH = {
    "config": ("elrun's LaunchConfig", ()),
    "entrypoint": ("a command or a function", ("x", str)),
    "args": ("a list", ([1], ["a", 1], {"a": 1}, {1: 2})),
    "health_check_server": ("a health check server", (None,)),
}
REGISTER = {
    "backend": TEXT,
    "creator": ("a function that returns a handler", (str,)),
}
ONE_VALUE = {
    "params": ("RendezvousParameters", (), get_rendezvous_handler),
    "val_or_map": (
        "a Std, or a dict of a Std by local rank",
        (5, {"a": 1}, {1: 2}),
        lambda value: to_map(value, 2),
    ),
    "spec": ("a WorkerSpec", (), lambda value: LocalElasticAgent(value, DefaultLogsSpecs())),
}


def config_of(**values):
    return LaunchConfig(**{**FEW, **values})


def spec_of(**values):
    given = {"role": "r", "local_world_size": 1, "rdzv_handler": None, "entrypoint": "x"}
    return WorkerSpec(**{**given, **values})


def parameters_of(**values):
    given = {"backend": "c10d", "endpoint": "", "run_id": "r", "min_nodes": 1, "max_nodes": 1}
    return RendezvousParameters(**{**given, **values})


def processes_of(**values):
    logs = DefaultLogsSpecs("/dev/null")
    given = {"name": "r", "entrypoint": "x", "args": {0: ()}, "envs": {0: {}}, "logs_specs": logs}
    return start_processes(**{**given, **values})


def launch_of(**values):
    given = {"config": config_of(), "entrypoint": "x", "args": []}
    return launch_agent(**{**given, **values})


def register(**values):
    return RendezvousHandlerRegistry().register(**{"backend": "x", "creator": str, **values})


TABLES = [
    (config_of, CONFIG),
    (spec_of, SPEC),
    (parameters_of, PARAMETERS),
    (DefaultLogsSpecs, LAYOUT),
    (processes_of, PROCESSES),
    (launch_of, LAUNCH),
    (register, REGISTER),
]
ROWS = [
    (lambda value, make=make, name=name: make(**{name: value}), name, wanted, right)
    for make, table in TABLES
    for name, (wanted, right) in table.items()
] + [(make, name, wanted, right) for name, (wanted, right, make) in ONE_VALUE.items()]


@pytest.mark.parametrize(("make", "name", "wanted", "right"), ROWS, ids=[row[1] for row in ROWS])
def test_a_value_of_a_wrong_type_is_named(make, name, wanted, right):
    """With what would be right, and not by what elrun tried to do with it."""
    for value in WRONG:
        if not any(value is each or value == each for each in right):
            sentence = re.escape(f"{name}={value!r}: give {wanted}")
            with pytest.raises(ValueError, match=f"^{sentence}"):
                make(value)


def test_all_fields_of_a_config_are_checked():
    """But a run id, which may be anything that has a text."""
    assert set(LaunchConfig.__annotations__) == {*CONFIG, "run_id"}


def test_a_config_of_another_package_is_none():
    """torch's has the same fields, and not the same methods."""

    class Foreign:
        def __repr__(self):
            return "LaunchConfig(...)"

    with pytest.raises(
        ValueError, match=r"^config=LaunchConfig\(...\): give elrun's LaunchConfig$"
    ):
        elastic_launch(Foreign(), "x")()
