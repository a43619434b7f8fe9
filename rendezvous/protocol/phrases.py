"""What people read of nodes: their names, which have come to a round, and which are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .records import History, Limits, Node, Roster
from .roster import natural_key
from .round import absent_members, misfits_among, missing_ranks, present
from .timing import seconds_in_words

_MOST_CONTRADICTIONS = 3
_MOST_REFUSALS = 3
_MOST_NAMES = 8


def shortfall(
    seated: Mapping[int, Node],
    history: History | None,
    *,
    mine: Limits,
    within_s: float,
    left: Sequence[Node] = (),
) -> str:
    """Return the sentence about a round that was given up.

    Args:
        left: Nodes that took a seat and have left it, such as those that gave up a moment before.
    """
    there = present(seated, mine)
    sentence = (
        f"{len(there)} of {mine.min_nodes} nodes joined within {seconds_in_words(within_s)} s "
        "(--rdzv-conf join_timeout=...)"
    )
    if there:
        sentence += f": {name_hosts(there.values())}"
    gone = [node for node in left if node.limits.suit(mine) and not node.refusal]
    if gone:
        sentence += f"; {name_hosts(gone)} joined and left"
    sentence += contradictions(seated, mine)
    ranks = missing_ranks(there, mine)
    if ranks:
        return f"{sentence}; {name_ranks(ranks)} missing"
    if history is None:
        return f"{sentence}; the others need the same --rdzv-endpoint and --rdzv-id"
    missing = name_members(sorted(absent_members(there, history)), history.roster)
    return (
        f"{sentence}; missing since round {history.roster.round}: {missing}"
        if missing
        else sentence
    )


def progress(
    count: int,
    seated: Mapping[int, Node],
    mine: Limits,
    history: History | None = None,
    last_call_s: float | None = None,
) -> str:
    """Return the sentence about a round that still forms.

    Args:
        last_call_s: How long the round waits for more nodes than it needs; None: that is unknown.
    """
    sentence = f"{count} of {mine} nodes {'is' if count == 1 else 'are'} here"
    if seated:
        sentence += f" ({name_hosts(seated.values())})"
    ranks = missing_ranks(seated, mine)
    if ranks:
        return f"{sentence}; {name_ranks(ranks)} missing"
    absent = sorted(absent_members(seated, history)) if history is not None and seated else []
    if absent and history is not None:
        sentence += f"; missing: {name_members(absent, history.roster)}"
    missing = mine.min_nodes - count
    if missing > 0:
        return f"{sentence}; {missing} more {'is' if missing == 1 else 'are'} needed"
    if last_call_s is not None and count < mine.max_nodes:
        sentence += f"; the last call ends {seconds_in_words(last_call_s)} s after the latest node"
    return sentence


def contradictions(seated: Mapping[int, Node], mine: Limits) -> str:
    """Return the part of the sentence about nodes that can't take part, for whichever reason."""
    refused = refusals(seated)
    others = _misfits(seated, mine, "this node")
    return (f"; {refused}" if refused else "") + "".join(f"; {each}" for each in others)


def hindrances(seated: Mapping[int, Node], limits: Limits) -> str:
    """Return, for all nodes, why a run can't begin with those that have come."""
    refused = refusals(seated)
    return "; ".join([*([refused] if refused else []), *_misfits(seated, limits, "the first node")])


def _misfits(seated: Mapping[int, Node], limits: Limits, whose: str) -> list[str]:
    """Return a sentence for each kind of node with other limits than one that is described."""
    others = {node.limits: node for node in misfits_among(seated, limits)}
    return [
        f"{name_hosts([node])} was refused: it has {theirs}, and {whose} "
        f"{ours.removeprefix(theirs.split()[0]).strip()}; give the same on every node"
        for node in list(others.values())[:_MOST_CONTRADICTIONS]
        for theirs, ours in [options_apart(node.limits, limits)]
    ]


def refusals(seated: Mapping[int, Node]) -> str:
    """Return why nodes can't take part, as they have said; "" if none has said so."""
    refused = [node for node in seated.values() if node.refusal]
    said = [f"{name_hosts([node])} can't take part: {node.refusal}" for node in refused]
    more = len(said) - _MOST_REFUSALS
    return "; ".join(said[:_MOST_REFUSALS] + ([f"{more} more can't, either"] if more > 0 else []))


def options_apart(limits: Limits, mine: Limits) -> tuple[str, str]:
    """Return, as their options, in what limits differ from those of this node; then this node's."""
    if limits.max_restarts != mine.max_restarts:
        return f"--max-restarts {limits.max_restarts}", f"--max-restarts {mine.max_restarts}"
    if str(limits) != str(mine):
        return f"--nnodes {limits}", f"--nnodes {mine}"
    patience, interval = "--rdzv-conf heartbeat_patience", "--rdzv-conf heartbeat_interval"
    if limits.outlast(mine):
        return f"{interval}={limits.beat_ms / 1000:g}", f"{patience}={mine.patience_ms / 1000:g}"
    return f"{patience}={limits.patience_ms / 1000:g}", f"{interval}={mine.beat_ms / 1000:g}"


def name_members(ranks: Iterable[int], roster: Roster | None) -> str:
    """Return members of a round by host and group rank: ``node1 (group rank 1) and …``."""
    members = () if roster is None else roster.members
    hosts = dict(enumerate(member.node.host for member in members))
    return _enumerate([f"{hosts.get(rank, 'a node')} (group rank {rank})" for rank in ranks])


def name_hosts(nodes: Iterable[Node]) -> str:
    """Return nodes by host, for nodes that have no rank yet."""
    counts = Counter(node.host for node in nodes)
    hosts = sorted(counts, key=natural_key)
    return _enumerate(
        [host if counts[host] == 1 else f"{host} ({counts[host]} nodes)" for host in hosts]
    )


def name_ranks(ranks: Sequence[int]) -> str:
    """Return node ranks with their verb: ``node ranks 1 and 2 are``."""
    names = _enumerate([str(rank) for rank in ranks])
    return f"node rank {names} is" if len(ranks) == 1 else f"node ranks {names} are"


def _enumerate(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES + 1:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
