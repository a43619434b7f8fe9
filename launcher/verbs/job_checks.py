"""What ``elrun doctor`` finds by running a small job on the nodes that the options ask for.

Each node runs ``elrun doctor`` with the same options. They meet as the real job would, under a name
of their own, and one worker a node measures what lies between them (``doctor_worker``).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...agent.failures.failure import ChildFailedError
from ...rendezvous.errors import RendezvousError
from ..commandline.version import __version__
from ..plan.config import LaunchConfig
from ..report.records import fault_in
from .check import Check, failed, ok, warning

Launch = Callable[[LaunchConfig, str, list[Any]], object]
"""What runs the agent."""

JOIN_TIMEOUT_S = 60.0
"""How long this node waits for the others, unless ``--rdzv-conf join_timeout`` says another."""

_WORKER = os.path.join(os.path.dirname(__file__), "doctor_worker.py")
_CLOCKS_APART_S = 1.0
_MIB = 1 << 20
_SLOW_SHARE = 0.25
"""A pair is called slow if it has less than this share of the middle pair's throughput."""

_NUMBER = (int, float)
_SHAPE: Mapping[str, Any] = {
    "rank": (int,),
    **dict.fromkeys(("host", "gloo_address"), (str,)),
    "pairs": {},
    "collectives": {},
}
_MEASURED = dict.fromkeys(("clock_ahead_s", "bytes_per_s", "round_trip_s"), _NUMBER)
_REDUCED: Mapping[str, Any] = {"bytes": (int,), "seconds": _NUMBER}

_COMPARED = ("elrun", "python", "torch", "options")


def check_job(config: LaunchConfig, python: str, launch: Launch) -> Iterator[Check]:
    """Run a job of one worker a node, and say what it found.

    Raises:
        SignalException: A signal ended it.
    """
    with tempfile.TemporaryDirectory(prefix="elrun-doctor-") as folder:
        result = os.path.join(folder, "result.json")
        started = time.monotonic()
        args = ["-u", _WORKER, json.dumps(_facts(config)), result]
        try:
            launch(_small(config), python, args)
        except RendezvousError as error:
            advice = "run elrun doctor with the same options on all nodes at once"
            yield failed("rendezvous", str(error), advice)
            return
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message = failure.summary if failure.says_why else f"exit code {failure.exitcode}"
            advice = "the lines above have more"
            yield failed("test job", f"rank {rank}: {message}", advice)
            return
        took_s = time.monotonic() - started
        try:
            with open(result, encoding="utf-8") as file:
                found = json.load(file)
        except OSError:
            yield warning(
                "rendezvous", "this node was not needed", "give --nnodes a higher maximum"
            )
            return
    yield ok("rendezvous", f"{len(found)} nodes met and left again in {took_s:.1f} s")
    yield from findings_of(found)


def findings_of(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Return what the nodes' reports say together.

    Args:
        nodes: One a rank, as ``doctor_worker`` writes it.
    """
    if faults := {rank: fault for rank, node in enumerate(nodes) if (fault := _fault_in(node))}:
        found = "; ".join(f"rank {rank}: {fault}" for rank, fault in faults.items())
        yield failed("what nodes found", found, "install the same elrun on all nodes")
        return
    yield from _differences(nodes)
    yield _clocks(nodes)
    yield from _pairs(nodes)
    yield from _gloo_addresses(nodes)
    yield from _collectives(nodes)


def _fault_in(node: Mapping[str, Any]) -> str:
    """Return how the report of a node differs from what is read of it: its elrun may be another."""
    fault = fault_in(node, _SHAPE)
    groups = () if fault else ((node["pairs"], _MEASURED), (node["collectives"], _REDUCED))
    for reports, shape in groups:
        for name, each in reports.items():
            is_told = isinstance(each, dict) and isinstance(each.get("problem"), str)
            if each and not is_told:
                fault = fault or fault_in(each, shape, name)
    return fault


def _small(config: LaunchConfig) -> LaunchConfig:
    settings = {**config.rdzv_configs}
    if not {"join_timeout", "timeout"} & settings.keys():
        settings["join_timeout"] = JOIN_TIMEOUT_S
    return LaunchConfig(
        config.min_nodes,
        config.max_nodes,
        nproc_per_node=1,
        run_id=f"{config.run_id}-doctor",
        rdzv_endpoint=config.rdzv_endpoint,
        rdzv_backend=config.rdzv_backend,
        rdzv_configs=settings,
        max_restarts=0,
        local_addr=config.local_addr,
        signals_to_handle=config.signals_to_handle,
        shutdown_timeout=1.0,
    )


def _facts(config: LaunchConfig) -> dict[str, Any]:
    options = {
        "nnodes": f"{config.min_nodes}:{config.max_nodes}",
        "rdzv_backend": config.rdzv_backend,
        "rdzv_id": config.run_id,
        "max_restarts": config.max_restarts,
    }
    shown = " ".join(f"{name}={value}" for name, value in options.items())
    return {"host": os.uname().nodename, "elrun": __version__, "options": shown}


def _name(node: Mapping[str, Any]) -> str:
    return f"rank {node['rank']} on {node['host']}"


def _differences(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    for what in _COMPARED:
        values: dict[str, list[str]] = {}
        for node in nodes:
            values.setdefault(str(node.get(what)), []).append(_name(node))
        if len(values) == 1:
            continue
        found = "; ".join(f"{value}: {', '.join(names)}" for value, names in values.items())
        yield warning(f"{what} differs", found, "give all nodes the same")
    if all(len({str(node.get(what)) for node in nodes}) == 1 for what in _COMPARED):
        yield ok("versions and options", "the same on all nodes")


def _clocks(nodes: Sequence[Mapping[str, Any]]) -> Check:
    apart = {
        (_name(node), _name(nodes[int(other)])): pair["clock_ahead_s"]
        for node in nodes
        for other, pair in node["pairs"].items()
        if "clock_ahead_s" in pair
    }
    if not apart:
        return ok("clocks", "not compared")
    (one, other), ahead_s = max(apart.items(), key=lambda each: abs(each[1]))
    found = f"at most {abs(ahead_s) * 1000:.1f} ms apart"
    if abs(ahead_s) < _CLOCKS_APART_S:
        return ok("clocks", found)
    late, early = (one, other) if ahead_s > 0 else (other, one)
    advice = "run chrony or ntpd: elrun compares no clocks, but log files and certificates do"
    return warning("clocks", f"{late} is {abs(ahead_s):.1f} s behind {early}", advice)


def _pairs(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    measured = {}
    for node in nodes:
        for other, pair in node["pairs"].items():
            between = f"{_name(node)} and {_name(nodes[int(other)])}"
            if "problem" in pair:
                advice = "see whether a firewall lets these hosts connect to any port of each other"
                yield failed("connection", f"between {between}: {pair['problem']}", advice)
            elif "bytes_per_s" in pair:
                measured[between] = pair
    if not measured:
        return
    rates = sorted(pair["bytes_per_s"] for pair in measured.values())
    middle = rates[len(rates) // 2]
    for between, pair in measured.items():
        if pair["bytes_per_s"] < _SLOW_SHARE * middle:
            found = f"{between}: {_rate(pair['bytes_per_s'])}, others {_rate(middle)}"
            yield warning("slow connection", found, "look at cables, switch ports and MTU there")
    slowest = max(pair["round_trip_s"] for pair in measured.values())
    found = (
        f"{len(measured)} pairs: {_rate(rates[0])} to {_rate(rates[-1])}, round trips of at most "
        f"{slowest * 1000:.2f} ms"
    )
    yield ok("connections", found)


def _gloo_addresses(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    if len({node["host"] for node in nodes}) == 1:
        return
    for node in nodes:
        if str(node["gloo_address"]).startswith("127."):
            found = f"{_name(node)}: its host name is {node['gloo_address']} there"
            advice = "mend /etc/hosts there, or set GLOO_SOCKET_IFNAME to the interface"
            yield warning("address for gloo", found, advice)


def _collectives(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    for backend in sorted({name for node in nodes for name in node["collectives"]}):
        results = {_name(node): node["collectives"].get(backend) for node in nodes}
        problems = {
            name: each["problem"] for name, each in results.items() if "problem" in (each or {})
        }
        absent = [name for name, each in results.items() if each is None]
        if problems:
            name, problem = next(iter(problems.items()))
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            advice = (
                f"see the connections above; {backend.upper()}_SOCKET_IFNAME names the interface"
            )
            yield failed(f"all-reduce by {backend}", f"{name}{more}: {problem}", advice)
        elif absent:
            found = f"{', '.join(absent)} can't take part"
            yield warning(
                f"all-reduce by {backend}", found, "give these nodes GPUs and a fit torch"
            )
        else:
            slowest = max(each["seconds"] for each in results.values() if each)
            size = next(each["bytes"] for each in results.values() if each)
            found = f"{size // _MIB} MiB in {slowest * 1000:.1f} ms ({_rate(size / slowest)})"
            yield ok(f"all-reduce by {backend}", found)


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s * 8 / 1e9:.2f} Gbit/s"
