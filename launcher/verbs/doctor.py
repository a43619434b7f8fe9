"""``elrun doctor [OPTIONS] [SCRIPT]``: what a job with these options would meet, before it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ...rendezvous.network.addresses import Endpoint, EndpointError, parse_endpoints
from ..commandline.arguments import Given, Refusal
from ..commandline.environment import Environment
from ..commandline.options import STANDALONE
from ..commandline.parse import parse
from ..plan.plan import Plan, compose
from ..terminal.console import Console, logging_to
from . import machine_checks as machine
from . import network_checks as network
from .check import CHECK_TIMEOUT_S, Check, Verdict, failed, ok, outcome_of
from .check_table import as_json, as_lines, show_table, verdict_on
from .job_checks import Launch, check_job

USAGE = """\
Usage: elrun doctor [--format text|json] [OPTIONS] [SCRIPT [ARGS]...]

Look at what a job with these options would meet on this node: Python, torch,
GPUs, memory, limits, folders, names, addresses, and the place to meet. With
several nodes (--nnodes), run it on all of them at once: they meet as the job
would, and the connections between them are measured.

OPTIONS are those of elrun (elrun --help). Nothing of SCRIPT is run.
The exit code is 1 if a check failed, else 0.
"""

_NO_SCRIPT = "SCRIPT"
_DEFAULT_PORTS = {"c10d": 29400, "static": 29500}
_ETCD_PORT = 2379


def run(args: list[str], environment: Environment, launch: Launch) -> int:
    """Look at everything, show it, and return the exit code.

    Args:
        args: What stands after ``elrun doctor``.
        environment: The environment.
        launch: What runs the agent of the test job.

    Raises:
        Refusal: An option is not known; the value of a known one is a matter of a check.
        Answered: ``--help`` or the like was asked for.
        OSError: What was found can't be written.
        SignalException: A signal ended the test job.
    """
    console = Console(sys.stdout)
    given, notices = parse(args, environment, usage=USAGE, needs_script=False)
    for notice in notices:
        Console().say(notice)
    is_json = given["format"] == "json"
    checks: list[Check] = []
    is_terminal = console.stream is not None and console.stream.isatty()
    with logging_to(Console(), environment.log_level):
        for check in _checks(given, environment, launch):
            checks.append(check)
            if not is_json and not is_terminal:
                console.answer(as_lines(check))
    if is_json:
        console.answer(as_json(checks) + "\n")
    elif is_terminal:
        show_table(checks, console)
    return int(verdict_on(checks) is Verdict.FAILED)


def _checks(given: Given, environment: Environment, launch: Launch) -> Iterator[Check]:
    plan, refusal = _plan(given, environment)
    interpreter = machine.Interpreter(environment.python)
    devices = machine.devices_here()
    variables = environment.variables
    yield from outcome_of("Python", partial(machine.check_python, interpreter))
    yield from outcome_of("torch", partial(machine.check_torch, interpreter, devices))
    yield from outcome_of("GPUs", partial(machine.check_devices, devices, variables))
    for name, look in {
        "CPUs": machine.check_cpus,
        "memory": machine.check_memory,
        "limits": machine.check_limits,
        "clock": machine.check_clock,
        "host name": network.check_host_name,
        "interfaces": network.check_interfaces,
    }.items():
        yield from outcome_of(name, look)
    log_dir = given["log_dir"]
    yield from outcome_of("folders", partial(machine.check_folders, log_dir, variables))
    if plan is None:
        yield refusal
        return
    yield ok("options", _described(plan))
    workers = plan.config.nproc_per_node
    yield from outcome_of(
        "workers", partial(machine.check_workers, workers, devices, {**variables, **plan.variables})
    )
    if plan.config.health_check:
        command, timeout_s = plan.config.health_check, plan.config.health_check_timeout
        look = partial(machine.check_health, command, timeout_s, variables)
        yield from outcome_of("health check", look, timeout_s + CHECK_TIMEOUT_S)
    yield from _meeting(plan, environment, launch)


def _plan(given: Given, environment: Environment) -> tuple[Plan | None, Check]:
    """Return what would be launched, or the check that says why nothing would."""
    is_checked = bool(given.command)
    if not is_checked:
        given = Given(given.answers, (_NO_SCRIPT,))
    try:
        return compose(given, environment, is_checked=is_checked, is_rehearsal=True), ok(
            "options", ""
        )
    except Refusal as refusal:
        return None, failed("options", str(refusal), "change what the sentence names")


def _described(plan: Plan) -> str:
    config = plan.config
    nodes = str(config.min_nodes)
    if config.max_nodes != config.min_nodes:
        nodes += f" to {config.max_nodes}"
    where = f" at {config.rdzv_endpoint}" if config.rdzv_endpoint else ""
    noun = "node" if config.max_nodes == 1 else "nodes"
    return f"{nodes} {noun}, rendezvous {config.rdzv_backend}{where}"


def _meeting(plan: Plan, environment: Environment, launch: Launch) -> Iterator[Check]:
    config = plan.config
    if config.rdzv_backend == STANDALONE or not config.rdzv_endpoint:
        return
    is_etcd = config.rdzv_backend.startswith("etcd")
    default = _ETCD_PORT if is_etcd else _DEFAULT_PORTS.get(config.rdzv_backend)
    broken = False
    if default is not None:  # a plug-in's endpoint is a text that only the plug-in reads
        for check in _endpoints(config.rdzv_endpoint, default, plan, is_etcd=is_etcd):
            broken |= check.verdict is Verdict.FAILED
            yield check
    if config.max_nodes > 1 and not broken:
        yield from check_job(config, environment.python, launch)


def _endpoints(text: str, default: int, plan: Plan, *, is_etcd: bool) -> Iterator[Check]:
    config = plan.config
    try:
        endpoints = [each.or_port(default) for each in parse_endpoints(text)]
    except EndpointError as error:
        yield failed("endpoint", str(error), "give --rdzv-endpoint HOST:PORT")
        return
    first, nodes = endpoints[0], config.max_nodes
    yield from outcome_of(
        "address of this node", partial(network.check_address, first, config.local_addr, nodes)
    )
    for endpoint in endpoints:
        name = f"endpoint {endpoint}"
        yield from outcome_of(name, _look_at(endpoint, config.rdzv_configs, is_etcd=is_etcd))


def _look_at(endpoint: Endpoint, settings: Mapping[str, Any], *, is_etcd: bool) -> Any:
    if is_etcd:
        return partial(network.check_etcd, endpoint, settings)
    return partial(network.check_endpoint, endpoint)
