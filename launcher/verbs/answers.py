"""The shape of what agents answer: one of another version, or another node, may say anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report.records import fault_in, number_in
from ..report.words import spans

_TEXT, _WHOLE = (str,), (int,)
_TEXT_OR_NONE, _WHOLE_OR_NONE = (str, type(None)), (int, type(None))
_NUMBER, _NUMBER_OR_NONE = (int, float), (int, float, type(None))

STANDING: Mapping[str, Any] = {
    **dict.fromkeys(("run_id", "node", "state"), _TEXT),
    **dict.fromkeys(("round", "group_rank", "group_world_size"), _WHOLE_OR_NONE),
    "since_s": _NUMBER_OR_NONE,
    "world_size": _WHOLE,
    "restarts": dict.fromkeys(("spent", "left", "max"), _WHOLE),
    "decision": ({"text": _TEXT, "ago_s": _NUMBER}, None),
    "workers": [
        {
            "rank": _WHOLE,
            "pid": _WHOLE_OR_NONE,
            "state": _TEXT,
            "logs": [_TEXT],
            "last_line": _TEXT_OR_NONE,
            "silent_s": _NUMBER_OR_NONE,
        }
    ],
}
"""How one agent stands; what its workers use may be missing."""

STACKS: Mapping[str, Any] = {
    "node": _TEXT,
    "ranks": [
        {
            **dict.fromkeys(("rank", "pid"), _WHOLE),
            **dict.fromkeys(("place", "silence", "stack"), _TEXT),
        }
    ],
}
"""Where the workers of one node are."""

OF_NODES: Mapping[str, Any] = {
    "nodes": [{"group_rank": _WHOLE_OR_NONE}],
    "missing": [_WHOLE],
    "problem": _TEXT,
}
"""What one agent has heard from all nodes."""

STOPPED: Mapping[str, Any] = {"shutdown_timeout_s": _NUMBER}
"""How long the workers have; whose they are may be missing."""

SHAPES = {
    "/status": STANDING,
    **dict.fromkeys(("/nodes", "/stacks"), OF_NODES),
    **dict.fromkeys(("/stop", "/stop/now"), STOPPED),
}


def understood(
    nodes: Sequence[Mapping[str, Any]], shape: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], str]:
    """Return the answers of those nodes that have a shape, and a sentence about the others.

    Args:
        nodes: What each has answered, with its group rank.
    """
    known = [node for node in nodes if not fault_in(node, shape)]
    odd = sorted(node["group_rank"] or 0 for node in nodes if fault_in(node, shape))
    if not odd:
        return known, ""
    of_nodes = f"node {odd[0]}" if len(odd) == 1 else f"nodes {spans(odd)}"
    return known, f"the answer of {of_nodes} is not understood: is another version of elrun there?"


def used_by(worker: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Return how much of a CPU a worker uses, in per cent, and its bytes of memory, if known."""
    memory = number_in(worker.get("memory_bytes"))
    return number_in(worker.get("cpu_percent")), None if memory is None else int(memory)
