"""The options of elrun: their names, defaults, values and groups, in the order of ``--help``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from ..agent.signals import DEFAULT_SIGNALS
from . import parsing
from .config import START_METHODS
from .given import Origin, Refusal, said

NODES = "Nodes and workers"
RENDEZVOUS = "Rendezvous"
STATIC = "Static rendezvous and addresses"
PROGRAM = "What is run"
RESTARTS = "Restarts, signals and the end"
LOGS = "The workers' output"
MORE = "Devices and events"
ABOUT = "About elrun"

NO_BREAK = "\0"
"""Stands for a space at which no line may be broken."""

_ORIGINS = {
    ParameterSource.COMMANDLINE: Origin.COMMAND_LINE,
    ParameterSource.DEFAULT_MAP: Origin.ENVIRONMENT,
}


class Value(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """The type of an option's value.

    Args:
        parse: Turns text into the value; a ``ValueError`` says what would be right.
    """

    name = "value"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or refuse the text under the name that the user gave it."""
        try:
            return self._parse(value)
        except ValueError as error:
            name = (param and param.name) or ""
            origin = origin_of(name, ctx) if ctx else Origin.COMMAND_LINE
            raise Refusal(f"{said(name, value, origin)}: {error}") from error
        finally:
            if param and ctx:
                texts_of(ctx)[param.name or ""] = value


def origin_of(name: str, ctx: click.Context) -> Origin:
    """Return where an option's value comes from."""
    source = ctx.get_parameter_source(name)
    return Origin.DEFAULT if source is None else _ORIGINS.get(source, Origin.DEFAULT)


def texts_of(ctx: click.Context) -> dict[str, str]:
    """Return the texts that options were given, by name."""
    texts: dict[str, str] = ctx.meta.setdefault("elrun.texts", {})
    return texts


class LaunchOption(click.Option):
    """An option that stands in a group of ``--help``.

    Args:
        group: The group's title.
    """

    def __init__(self, spellings: Sequence[str], *, group: str, **settings: Any) -> None:
        super().__init__(spellings, **settings)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the two columns of ``--help``; a default is not broken over two lines."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        text, mark, default = record[1].partition("[default: ")
        return record[0], text + mark.replace(" ", NO_BREAK) + default.replace(" ", NO_BREAK)


def _value(
    spellings: str,
    metavar: str,
    group: str,
    parse: Callable[[str], Any],
    default: str | None,
    description: str,
) -> LaunchOption:
    return LaunchOption(
        spellings.split(),
        group=group,
        metavar=metavar,
        type=Value(parse),
        default=default,
        show_default=bool(default),
        help=description,
    )


def _flag(spellings: str, group: str, description: str) -> LaunchOption:
    return LaunchOption(spellings.split(), group=group, is_flag=True, help=description)


OPTIONS: tuple[LaunchOption, ...] = (
    _value(
        "--nnodes",
        "N|MIN:MAX",
        NODES,
        parsing.parse_nodes,
        "1",
        "Nodes of the job; with a range it may shrink and grow.",
    ),
    _value(
        "--nproc-per-node",
        "N|KIND",
        NODES,
        parsing.parse_workers,
        "1",
        "Workers on this node: a number, auto, gpu, xpu or cpu (one for each).",
    ),
    _flag(
        "--standalone", NODES, "One node, nothing to configure, any number of jobs side by side."
    ),
    _value(
        "--rdzv-backend",
        "NAME",
        RENDEZVOUS,
        parsing.name("a backend"),
        "static",
        "How nodes meet: static, c10d, etcd-v2, etcd-v3, or a plug-in's name.",
    ),
    _value(
        "--rdzv-endpoint",
        "HOST:PORT",
        RENDEZVOUS,
        parsing.parse_endpoints,
        None,
        "Where they meet; one node needs none.",
    ),
    _value(
        "--rdzv-id",
        "ID",
        RENDEZVOUS,
        parsing.name("the job's id"),
        "none",
        "Name of the job, the same on all its nodes.",
    ),
    _value(
        "--rdzv-conf",
        "KEY=VALUE,...",
        RENDEZVOUS,
        parsing.parse_settings,
        "",
        "The backend's own settings.",
    ),
    _value(
        "--node-rank",
        "N",
        STATIC,
        parsing.whole_number(0, "this node's rank"),
        "0",
        "Rank of this node; static only.",
    ),
    _value(
        "--master-addr",
        "HOST",
        STATIC,
        parsing.parse_host,
        "127.0.0.1",
        "Address of the node of rank 0; static only.",
    ),
    _value(
        "--master-port",
        "PORT",
        STATIC,
        parsing.parse_port,
        None,
        "Port there; static only; one node needs none.  [default: 29500]",
    ),
    _value(
        "--local-addr",
        "HOST",
        STATIC,
        parsing.parse_host,
        None,
        "Address of this node for the others.  [default: found]",
    ),
    _value(
        "--role", "NAME", PROGRAM, parsing.name("a role"), "default", "Name that the workers share."
    ),
    _flag("-m --module", PROGRAM, "SCRIPT is a module, run as by python -m."),
    _flag("--no-python", PROGRAM, "SCRIPT is any program, run as it is."),
    _flag("--run-path", PROGRAM, "SCRIPT runs by runpy.run_path in the worker."),
    _value(
        "--start-method",
        "METHOD",
        PROGRAM,
        parsing.choice(*START_METHODS),
        "spawn",
        "For --run-path: spawn, fork or forkserver.",
    ),
    _value(
        "--max-restarts",
        "N",
        RESTARTS,
        parsing.whole_number(0, "how many restarts"),
        "0",
        "Restarts before a failure ends the job.",
    ),
    _value(
        "--monitor-interval",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=False),
        "0.1",
        "Time between looks at what can't be waited for.",
    ),
    _value(
        "--signals-to-handle",
        "NAMES",
        RESTARTS,
        parsing.parse_signal_names,
        DEFAULT_SIGNALS,
        "Signals that end the job.",
    ),
    _value(
        "--shutdown-timeout",
        "SECONDS",
        RESTARTS,
        parsing.seconds(zero=True),
        None,
        "Seconds from SIGTERM to SIGKILL; TORCH_ELASTIC_SHUTDOWN_TIMEOUT.  [default: 30]",
    ),
    _value(
        "--log-dir",
        "DIR",
        LOGS,
        parsing.name("a folder"),
        None,
        "Folder for the log files.  [default: a temporary one]",
    ),
    _value(
        "-r --redirects",
        "STREAMS",
        LOGS,
        parsing.parse_streams,
        "0",
        "To files: 1 stdout, 2 stderr, 3 both, 0 none; 0:1,10:3 by local rank.",
    ),
    _value(
        "-t --tee",
        "STREAMS",
        LOGS,
        parsing.parse_streams,
        "0",
        "To files and the console; as --redirects.",
    ),
    _value(
        "--local-ranks-filter",
        "RANKS",
        LOGS,
        parsing.parse_local_ranks,
        "",
        "Only these local ranks speak on the console.",
    ),
    _value(
        "--duplicate-stdout-filters",
        "WORDS",
        LOGS,
        parsing.parse_words,
        "",
        "Collect lines of stdout with a word in a file.",
    ),
    _value(
        "--duplicate-stderr-filters",
        "WORDS",
        LOGS,
        parsing.parse_words,
        "",
        "Collect lines of stderr with a word in a file.",
    ),
    _value(
        "--logs-specs",
        "NAME",
        LOGS,
        parsing.name("a plug-in"),
        None,
        "A plug-in that lays the log files out (torchrun.logs_specs).",
    ),
    _value(
        "--numa-binding",
        "MODE",
        MORE,
        parsing.choice("node", "socket", "exclusive", "core-complex"),
        None,
        "Bind workers to CPUs: node, socket, exclusive, core-complex.",
    ),
    _flag("--virtual-local-rank", MORE, "Each worker sees its GPU as device 0, with LOCAL_RANK 0."),
    _value(
        "--event-log-handler",
        "NAME",
        MORE,
        parsing.choice("null", "console"),
        "null",
        "Where the events go: null or console.",
    ),
)
