"""The summary of a run for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from .story import Story
from .words import as_clock, as_duration, as_exit, as_percent, as_size, counted

_MOST_FAILURES, _MOST_RANKS, _MOST_DECISIONS = 10, 16, 20


def text_of(story: Story) -> str:
    """Return the summary, line by line."""
    return "\n".join([*_lines(story), ""])


def _lines(story: Story) -> Iterator[str]:
    verdict = story.verdict
    begin, end = story.axis
    reason = f": {verdict['reason']}" if verdict["reason"] else ""
    yield f"{story.title}: {verdict['state']}{reason}"
    code = verdict["exit_code"]
    parts = [
        f"began {as_clock(begin)} UTC",
        f"{'took' if verdict['ended_at'] else 'known for'} {as_duration(end - begin)}",
        counted(len(story.nodes), "node"),
        counted(story.world_size, "rank"),
        counted(story.restarts, "restart"),
        *([] if code is None else [f"exit code {code}"]),
    ]
    yield "; ".join(parts)
    yield from _of_nodes(story)
    yield from _of_failures(story)
    yield from _of_ranks(story)
    yield ""
    yield "decisions:"
    shown = story.decisions[-_MOST_DECISIONS:]
    if len(shown) < len(story.decisions):
        yield f"  ({len(story.decisions) - len(shown)} earlier ones: elrun report -o FILE)"
    for each in shown:
        yield f"  {as_clock(each.at)}  {each.node}  {each.text}".rstrip()


def _of_nodes(story: Story) -> Iterator[str]:
    yield ""
    yield "nodes:"
    for node in story.nodes:
        yield f"  {node.label}"


def _of_failures(story: Story) -> Iterator[str]:
    if not story.failures:
        return
    yield ""
    yield "failures:"
    for failure in story.failures[-_MOST_FAILURES:]:
        place = "" if failure.round is None else f"round {failure.round}: "
        yield f"  {as_clock(failure.at)}  {place}{failure.reason}; {failure.then or 'the end'}"
        for words in failure.words:
            yield f"    {words}"
        for log in failure.logs:
            yield f"    log: {log.path}"
    last = story.failures[-1]
    if last.root is not None and last.root["traceback"]:
        yield ""
        yield from (f"  {line}" for line in str(last.root["traceback"]).splitlines())


def _of_ranks(story: Story) -> Iterator[str]:
    if story.ranks:
        yield ""
        yield "ranks:"
    for rank in story.ranks[:_MOST_RANKS]:
        code = as_exit(rank["exitcode"])
        end = f"{rank['state']}{f' ({code})' if code else ''}"
        yield f"  rank {rank['global_rank']} on {rank['node']}: {end}  {rank['words']}".rstrip()
    if story.curves:
        yield ""
        yield "used:"
    for each in story.curves[:_MOST_RANKS]:
        cpu, memory = each.cpu.values, each.memory.values
        mean = as_percent(sum(cpu) / len(cpu)) if cpu else "not known"
        most = as_size(max(memory)) if memory else "not known"
        yield f"  rank {each.rank} on {each.node}: CPU {mean} on average, memory {most} at most"
    left_out = max(len(story.ranks), len(story.curves)) - _MOST_RANKS
    if left_out > 0:
        yield f"  ({left_out} more ranks: elrun report -o FILE)"
