"""``--dry-run``: what would be launched, and where each value comes from; nothing is started."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, cast

from ...agent.failures.failure import ERROR_FILE_VARIABLE
from ...agent.output.prefixes import USUAL_PREFIX
from ...agent.system.process_tree import MARK_VARIABLE
from ...agent.workers.environment import SIGNALS_TO_HANDLE, worker_environment
from ...agent.workers.worker import Worker, WorkerGroup, WorkerSpec
from ..commandline.arguments import Answer, Origin, spelling_of, variable_of
from ..commandline.environment import Environment
from ..commandline.options import OPTIONS, STANDALONE
from ..plan.config import DEFAULT_LAYOUT
from ..plan.plan import Plan
from ..terminal.console import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...rendezvous.api.handler import RendezvousHandler

_OF_EACH_START = ("MASTER_ADDR", "MASTER_PORT")
_OF_EACH_WORKER = (ERROR_FILE_VARIABLE, MARK_VARIABLE)
_OF_THE_ROUND = (
    "RANK",
    "WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
)
_LATER = "(known when the job starts)"
_UNLESS_GIVEN = {
    "rdzv_id": _LATER,
    "restart_on": "(all causes)",
    "restart_window": "(the whole job)",
    "hang_timeout": "(never)",
    "local_addr": "(found when the job starts)",
    "log_dir": "(a temporary folder)",
    "local_ranks_filter": "(all)",
}


def described(plan: Plan, environment: Environment) -> dict[str, Any]:
    """Return what would be launched, as one JSON object.

    Args:
        plan: What would be launched.
    """
    config = plan.config
    computed = _computed(plan)
    entrypoint = plan.program.entrypoint
    name = entrypoint if isinstance(entrypoint, str) else getattr(entrypoint, "__name__", "")
    return {
        "version": 1,
        "options": {
            option.name: _of_option(option.name, plan.given.answers[option.name], computed)
            for option in OPTIONS
        },
        "nodes": {"min": config.min_nodes, "max": config.max_nodes},
        "rendezvous": {
            "backend": config.rdzv_backend,
            "endpoint": config.rdzv_endpoint,
            "run_id": config.run_id,
            "settings": {key: str(value) for key, value in config.rdzv_configs.items()},
        },
        "command": [name, *map(str, plan.program.args)],
        "workers": [
            {"local_rank": rank, "environment": _added(plan, environment, rank)}
            for rank in range(config.nproc_per_node)
        ],
        "notices": list(plan.notices),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Return the same for people."""
    return printable("\n".join([*_lines(found), ""]))


def as_json(found: Mapping[str, Any]) -> str:
    """Return the same for programs."""
    return json.dumps(found, indent=2) + "\n"


def _computed(plan: Plan) -> dict[str, str]:
    """Return what stands for options that were not given, where a fixed default does not say it."""
    config, given = plan.config, plan.given
    found = {
        "rdzv_backend": config.rdzv_backend,
        "rdzv_endpoint": config.rdzv_endpoint,
        "rdzv_id": config.run_id,
        "forward_signals": config.forward_signals,
        "shutdown_timeout": f"{config.shutdown_timeout:g}",
        "exit_barrier_timeout": f"{config.exit_barrier_timeout:g}",
        "restart_timeout": f"{config.shutdown_timeout:g}",
        "log_line_prefix_template": config.log_line_prefix_template or USUAL_PREFIX,
        "logs_specs": DEFAULT_LAYOUT,
    }
    if config.rdzv_backend == "static":
        found["master_port"] = config.rdzv_endpoint.rpartition(":")[2]
    return {name: text for name, text in found.items() if not given.is_given(name)}


def _of_option(name: str, answer: Answer, computed: Mapping[str, str]) -> dict[str, Any]:
    text = computed.get(name, answer.text) or None
    if text is None and isinstance(answer.value, bool):
        text = str(answer.value).lower()
    origin = {"value": text, "origin": answer.origin.value}
    if answer.origin is Origin.ENVIRONMENT:
        origin["source"] = variable_of(name)
    elif answer.source:
        origin["source"] = answer.source
    return origin


def _added(plan: Plan, environment: Environment, local_rank: int) -> dict[str, str | None]:
    """Return what elrun would add to a worker's environment; None: it is not known yet."""
    config = plan.config
    is_alone = config.rdzv_backend == STANDALONE
    size = config.nproc_per_node
    spec = WorkerSpec(
        config.role,
        size,
        cast("RendezvousHandler", None),  # nobody is met
        entrypoint=plan.program.entrypoint,
        max_restarts=config.max_restarts,
        virtual_local_rank=config.virtual_local_rank,
    )
    group = WorkerGroup(spec)
    group.group_rank, group.group_world_size = 0, 1
    added: dict[str, str | None] = {
        **plan.variables,
        SIGNALS_TO_HANDLE: config.signals_to_handle,
        **worker_environment(
            Worker(local_rank, local_rank, local_rank, size, size),
            group,
            restart_count=0,
            run_id=config.run_id,
            use_agent_store=True,
            inherited={**environment.variables, **plan.variables},
        ),
    }
    unknown = (*_OF_EACH_START, *(() if is_alone else _OF_THE_ROUND), *_OF_EACH_WORKER)
    added |= dict.fromkeys(unknown)
    if not config.run_id:
        added["TORCHELASTIC_RUN_ID"] = None
    if config.rdzv_backend == "static" and config.rdzv_endpoint:
        host, _, port = config.rdzv_endpoint.rpartition(":")
        added |= {"MASTER_ADDR": host.strip("[]"), "MASTER_PORT": port}
    return added


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    workers, rendezvous = found["workers"], found["rendezvous"]
    noun = "worker" if len(workers) == 1 else "workers"
    yield f"{len(workers)} {noun} on this node would run: {shlex.join(found['command'])}"
    nodes = found["nodes"]
    count = (
        str(nodes["min"]) if nodes["min"] == nodes["max"] else f"{nodes['min']} to {nodes['max']}"
    )
    where = f" at {rendezvous['endpoint']}" if rendezvous["endpoint"] else ""
    name = f", run id {rendezvous['run_id']}" if rendezvous["run_id"] else ""
    settings = " ".join(f"{key}={value}" for key, value in rendezvous["settings"].items())
    yield f"nodes: {count}; rendezvous: {rendezvous['backend']}{where}{name}"
    if settings:
        yield f"rendezvous settings: {settings}"
    for notice in found["notices"]:
        yield f"notice: {notice}"
    yield ""
    yield "options, and where they come from:"
    rows = [
        (spelling_of(name), each["value"] or _UNLESS_GIVEN.get(name, "-"), _whence(each))
        for name, each in found["options"].items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for option, value, whence in rows:
        yield f"  {option:{widths[0]}}  {value:{widths[1]}}  {whence}".rstrip()
    yield ""
    yield "what elrun adds to the workers' environment:"
    names = list(workers[0]["environment"])
    width = max(map(len, names))
    for variable in names:
        values = [each["environment"][variable] for each in workers]
        shown = [_LATER if each is None else each for each in values]
        yield f"  {variable:{width}}  {', '.join(dict.fromkeys(shown))}"


def _whence(option: Mapping[str, Any]) -> str:
    source = option.get("source")
    return f"{option['origin']}, {source}" if source else str(option["origin"])
