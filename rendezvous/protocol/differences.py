"""The sentence about what should be the same on all nodes of a round, and is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .phrases import name_members
from .records import Node, Roster

WORKERS, SCRIPT, ARGUMENTS = "--nproc-per-node", "the script", "arguments"
"""Traits that nodes of different roles need not share; the first is in each record anyway."""
_OF_A_ROLE = frozenset({WORKERS, SCRIPT, ARGUMENTS})

_CONF = "--rdzv-conf "
_MOST_VALUES = 3


def differences(roster: Roster) -> str:
    """Return the sentence about how the members of a round differ; "" if they are alike.

    What a node does not say of itself is unknown, and differs from nothing; an option that it does
    not name has its default there. An older elrun says nothing of its node.

    Args:
        roster: The round, as it was drawn from the nodes' own records.
    """
    nodes = [member.node for member in roster.members]
    if all(_looks_like(node, nodes[0]) for node in nodes):
        return ""
    telling = {rank: node for rank, node in enumerate(nodes) if node.traits}
    names = dict.fromkeys([*(name for node in telling.values() for name in node.traits), WORKERS])
    found = [
        (name, sentence)
        for name in names
        for group in _comparable(name, telling)
        if (sentence := _contrast(name, group, lambda ranks: name_members(ranks, roster)))
    ]
    if not found:
        return ""
    may_be_two_jobs = any(name in (SCRIPT, ARGUMENTS) for name, _ in found)
    advice = ", or another --rdzv-id to another job" if may_be_two_jobs else ""
    sentences = "; ".join(sentence for _, sentence in found)
    return f"{sentences}; give all nodes the same{advice}, unless this is intended"


def _looks_like(node: Node, other: Node) -> bool:
    return node.traits == other.traits and node.local_world_size == other.local_world_size


def _comparable(name: str, nodes: Mapping[int, Node]) -> Iterable[dict[int, str]]:
    """Return the values of a trait by group rank, for each set of nodes that should share it."""
    sets: dict[tuple[str, str], dict[int, str]] = {}
    for rank, node in nodes.items():
        role = node.role if name in _OF_A_ROLE else ""
        script = node.traits.get(SCRIPT, "") if name == ARGUMENTS else ""
        value = _value(name, node)
        if value:
            sets.setdefault((role, script), {})[rank] = value
    return sets.values()


def _value(name: str, node: Node) -> str:
    if name == WORKERS:
        return f"{node.local_world_size}"
    is_option = name.startswith("--")
    return node.traits.get(name, "the default" if is_option else "")


def _contrast(
    name: str, values: Mapping[int, str], name_nodes: Callable[[Sequence[int]], str]
) -> str:
    """Return the sentence about nodes that differ in one trait: ``b has torch 2, a torch 1``."""
    by_value: dict[str, list[int]] = {}
    for rank, value in values.items():
        by_value.setdefault(value, []).append(rank)
    if len(by_value) <= 1:
        return ""
    # The most nodes have the usual value; where that is a draw, the first node has it.
    ordered = sorted(by_value.items(), key=lambda each: (len(each[1]), -each[1][0]))
    *odd, (usual, many) = ordered
    others = f"the {len(many)} others" if len(many) > 1 else name_nodes(many)
    ranks = sorted(rank for _, each in odd for rank in each)
    if name == ARGUMENTS:
        # Where no two of several nodes have the same, each has its own: that is intended.
        is_intended = len(many) == 1 and len(odd) > 1
        verb = "gives" if len(ranks) == 1 else "give"
        sentence = f"{name_nodes(ranks)} {verb} the script other arguments than {others}"
        return "" if is_intended else sentence
    words = f"{name}=" if name.startswith(_CONF) else f"{name} "
    (first, its), *more = odd
    parts = [f"{name_nodes(its)} {'has' if len(its) == 1 else 'have'} {words}{first}"]
    parts += [f"{name_nodes(each)} {value}" for value, each in more[: _MOST_VALUES - 1]]
    left = len(more) - _MOST_VALUES + 1
    if left > 0:
        parts.append(f"more nodes {left} other values" if left > 1 else "more nodes another value")
    return ", ".join([*parts, f"{others} {usual}"])
