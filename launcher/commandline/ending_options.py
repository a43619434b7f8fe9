"""The options that say when a job starts again, when it ends, and which signals mean that."""

from __future__ import annotations

from ...agent.system.signals import DEFAULT_SIGNALS
from . import converters as parsing
from .arguments import nearest
from .option import Option, flag, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...agent.failures.restart_causes import Causes

RESTARTS = "Restarts, signals and the end"
SIGNAL_TO = ("main", "group")


def parse_causes(text: str) -> Causes:
    """Return the causes of death in a list such as ``2,64-113,SIGSEGV,OSError,hang``.

    Raises:
        ValueError: A part of it is no cause.
    """
    from ...agent.failures.restart_causes import Causes  # few jobs

    return Causes.parse(text)


def parse_signal_names(text: str) -> str:
    """Return names of signals that a process can handle, as they were given.

    Raises:
        ValueError: There is none, or one that can't be handled.
    """
    from ...agent.system.signals import parse_signals  # `--help` needs none

    try:
        found = parse_signals(text)
    except ValueError as error:
        import signal  # refusals only

        unknown = str(error).split(" ", 1)[0]
        known = [each.name for each in signal.Signals]
        hint = "" if unknown in known else nearest(unknown, known)
        raise ValueError(f"{error}; give names such as SIGTERM,SIGUSR1{hint}") from None
    if not found:
        raise ValueError("name at least one signal, as in SIGTERM,SIGINT")
    return text


def parse_forwarded(text: str) -> str:
    """Return names of signals that workers get; nothing for the word none.

    Raises:
        ValueError: One can't be handled.
    """
    return "" if text.strip().lower() == "none" else parse_signal_names(text)


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
        parse_causes,
        None,
        "Restart after these only: exit codes, signals, exceptions.  [default: all]",
    ),
    value(
        "--no-restart-on",
        "CAUSES",
        RESTARTS,
        parse_causes,
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
        "--timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        None,
        "End the whole job after so long, waits included; exit code 124.  [default: never]",
        kind=parsing.seconds(zero=False),
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
        parse_signal_names,
        DEFAULT_SIGNALS,
        "Signals that end the job.",
    ),
    value(
        "--forward-signals",
        "NAMES",
        RESTARTS,
        parse_forwarded,
        None,
        "Signals that go to the workers, or none; on SLURM and Kubernetes USR1,USR2.",
    ),
    value(
        "--preempt-signal",
        "NAMES",
        RESTARTS,
        parse_signal_names,
        None,
        "At these signals all workers leave, and the job ends with exit code 75.",
    ),
    flag("--requeue", RESTARTS, "After a preemption, have SLURM queue the job again."),
    value(
        "--signal-to",
        "WHOM",
        RESTARTS,
        parsing.OneOf(SIGNAL_TO),
        None,
        "A worker before what it has started (main), or all at once (group); see the docs.",
    ),
    value(
        "--grace",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        None,
        "How long elrun has from a signal until it is killed itself.",
        kind=parsing.seconds(zero=False),
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
