"""The options that say when a job starts again, when it ends, and which signals mean that."""

from __future__ import annotations

from ...agent.system.signals import DEFAULT_SIGNALS
from . import converters as parsing
from .option import Option, value

RESTARTS = "Restarts, signals and the end"

ENDING_OPTIONS: tuple[Option, ...] = (
    value(
        "--max-restarts",
        "N",
        RESTARTS,
        parsing.parse_count,
        "0",
        "Restarts before a failure ends the job.",
        kind=int,
    ),
    value(
        "--restart-on",
        "CAUSES",
        RESTARTS,
        parsing.parse_causes,
        None,
        "Restart after these only: exit codes, signals, exceptions.  [default: all]",
    ),
    value(
        "--no-restart-on",
        "CAUSES",
        RESTARTS,
        parsing.parse_causes,
        None,
        "Never restart after these: 2,64-113,SIGSEGV,OSError,hang.",
    ),
    value(
        "--restart-delay",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=True),
        "0",
        "Pause before a restart; doubles with each in a row, up to 300.",
        kind=float,
    ),
    value(
        "--restart-window",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        None,
        "--max-restarts counts the last SECONDS only.  [default: the whole job]",
        kind=parsing.seconds(zero=False),
    ),
    value(
        "--restart-timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=True),
        None,
        "As --shutdown-timeout, before a restart.  [default: the same]",
        kind=parsing.seconds(zero=True),
    ),
    value(
        "--fuse",
        "N",
        RESTARTS,
        parsing.parse_count,
        "0",
        "Attempts in a row that may die at their start by one cause; 0: all.",
        kind=int,
    ),
    value(
        "--hang-timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        None,
        "No rank goes on for so long: show stacks, count as failed.  [default: never]",
        kind=parsing.seconds(zero=False),
    ),
    value(
        "--hang-log-pattern",
        "REGEX",
        RESTARTS,
        parsing.parse_pattern,
        None,
        "With it, only output lines that match count as going on.",
    ),
    value(
        "--monitor-interval",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        "0.1",
        "Time between looks at what can't be waited for.",
        kind=float,
    ),
    value(
        "--signals-to-handle",
        "NAMES",
        RESTARTS,
        parsing.parse_signal_names,
        DEFAULT_SIGNALS,
        "Signals that end the job.",
    ),
    value(
        "--forward-signals",
        "NAMES",
        RESTARTS,
        parsing.parse_forwarded,
        None,
        "Signals that go to the workers, or none; on SLURM and Kubernetes USR1,USR2.",
    ),
    value(
        "--shutdown-timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=True),
        None,
        "Seconds from SIGTERM to SIGKILL; TORCH_ELASTIC_SHUTDOWN_TIMEOUT.  [default: 30]",
        kind=parsing.seconds(zero=True),
    ),
    value(
        "--exit-barrier-timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=True),
        None,
        "How long a node that is done waits for the others.  [default: 300]",
        kind=parsing.seconds(zero=True),
    ),
)
