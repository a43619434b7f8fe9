"""``elrun stacks [RUN]``: where each rank of a job is, on all nodes; equal stacks together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ...agent.failures.stack_places import (
    FROZEN_IMPORT,
    IMPORT,
    Whereabouts,
    clause_of,
    odd_ones,
)
from ..report.choice import choose_job
from ..report.refusal import VerbRefusal
from ..report.words import spans
from ..terminal.console import Console, printable
from .answers import STACKS, understood
from .front import SETTINGS
from .ranks import WantedRanks, known_ranks, rank_option
from .standing import agents_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .asking import Agent

_ANSWER_S = 20.0
_NATIVE_S = 30.0
_MOST_AT_ONCE = 8
_MOST_REASON_CHARS = 200
_NUMBERS = re.compile(r"0x[0-9a-f]+|child process \d+|Process \d+|Thread \d+|pid \d+")


class Found(NamedTuple):
    """Where one rank is.

    Args:
        where: Its place and its stack.
    """

    node: str
    where: Whereabouts


@click.command("stacks", context_settings=SETTINGS)
@click.argument("run", required=False)
@rank_option
@click.option("--native", is_flag=True, help="With native frames, where py-spy is installed.")
@click.pass_obj
def command(
    variables: Mapping[str, str],
    run: str | None,
    ranks: tuple[tuple[range, ...], ...],
    *,
    native: bool,
) -> int:
    """Show the Python stack of each rank of a job of yours, on all its nodes.

    Equal stacks stand together; the rank that the others most likely wait for comes first. The job
    goes on. Native frames are those of ranks on this host.

    RUN is a run id (--rdzv-id) or how one begins, the name or path of a script, or the process id
    of an elrun. Without RUN, the only job that runs is meant.
    """
    console = Console(sys.stdout)
    runs = choose_job(variables, run, "stacks")
    if not any(each.is_live for each in runs):
        name = runs[0].run_id or runs[0].agent_pid
        raise VerbRefusal(f"{runs[0].label} has ended: elrun status {name} shows how")
    agents, problems = agents_of(runs)
    if not agents:
        raise VerbRefusal(problems[0])
    _require_workers(agents[0], runs[0].run_id)
    found, notes = _ask(agents)
    wanted = WantedRanks(ranks)
    if absent := wanted.absent_from(found):
        notes.append(f"run {runs[0].run_id} has no {absent} now: it has {known_ranks(found)}")
    found = {rank: each for rank, each in found.items() if rank in wanted}
    if native:
        parents = {agent.pid for agent in agents if agent.is_in_our_namespace}
        found, more = _with_native_frames(found, parents, variables.get("PATH", os.defpath))
        notes += more
    if not found and not notes:
        notes.append("no worker runs now")
    console.answer(printable("".join(_text(found))))
    for note in [*problems, *notes]:
        Console().say(note)
    return int(not found)


def _require_workers(agent: Agent, run_id: str) -> None:
    """Refuse to ask for stacks where there are none, or nobody answers: that is known sooner.

    Raises:
        VerbRefusal: The agent does not answer, or waits for other nodes.
    """
    if agent.ask("/status")["state"] == "meeting":
        raise VerbRefusal(f"run {run_id} waits for nodes, and no worker runs now")


def _ask(agents: Sequence[Agent]) -> tuple[dict[int, Found], list[str]]:
    """Ask one agent about all nodes, and the others here if that one could not ask them."""
    found: dict[int, Found] = {}
    notes: list[str] = []
    missing: list[int] = []
    for agent in agents:
        try:
            answer: Mapping[str, Any] = agent.ask("/stacks", _ANSWER_S)
        except VerbRefusal as refusal:
            notes.append(str(refusal))
            continue
        nodes, odd = understood(answer["nodes"], STACKS)
        for node in nodes:
            for each in node["ranks"]:
                said = each["pid"], each["place"], each["silence"], each["stack"]
                where = Whereabouts(*said, each.get("is_held") is True)
                found[each["rank"]] = Found(node["node"], where)
        missing = answer["missing"]
        notes += filter(None, (answer["problem"], odd))
        if not (missing or odd):
            return found, []
    if missing and len(agents) <= 1:
        notes.append(f"no answer from the nodes with group rank {spans(missing)}")
    return found, notes


def _text(found: Mapping[int, Found]) -> Iterator[str]:
    """Yield each group of ranks with equal stacks, the odd one first."""
    if not found:
        return
    odd = odd_ones({rank: each.where.standing for rank, each in found.items()})[0]
    groups: dict[tuple[str, str], list[int]] = {}
    for rank in sorted(found):
        where = found[rank].where
        # Ranks that import the same are at other lines of it at any moment.
        is_import = where.place.startswith(f"{IMPORT} ")
        key = where.clause, "" if is_import else _NUMBERS.sub("", where.stack)
        groups.setdefault(key, []).append(rank)
    in_order = sorted(groups.values(), key=lambda ranks: (odd not in ranks, len(ranks), ranks))
    for number, ranks in enumerate(in_order):
        first = found[ranks[0]]
        nodes = list(dict.fromkeys(found[rank].node for rank in ranks))
        pid = f", pid {first.where.pid}" if len(ranks) == 1 else ""
        on = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
        yield "\n" if number else ""
        of = "" if _are_equal(found[rank].where for rank in ranks) else f"; rank {ranks[0]} is here"
        yield f"{_ranks(ranks)} ({on}{pid}): {clause_of(ranks, first.where.clause)}{of}\n"
        yield "".join(f"    {line}\n" for line in _lines_of(first.where))


def _are_equal(places: Iterable[Whereabouts]) -> bool:
    return len({_NUMBERS.sub("", each.stack) for each in places}) == 1


def _lines_of(where: Whereabouts) -> list[str]:
    """Return the lines of a stack without those of Python's import system."""
    return [line for line in where.stack.splitlines() if FROZEN_IMPORT not in line]


def _with_native_frames(
    found: Mapping[int, Found], parents: Collection[int], search_path: str
) -> tuple[dict[int, Found], list[str]]:
    """Return the stacks as py-spy sees them, of the ranks on this host, and what it can't show.

    Args:
        found: Where the ranks are. Their hosts may all have one name, and a container has process
            ids of its own, so neither tells which process of this host is a rank's.
        parents: The process ids of the job's agents, whose children the ranks here are.
        search_path: Where py-spy is looked for.
    """
    beside_python = os.path.dirname(sys.executable)  # where pip puts it; PATH may lack that
    program = shutil.which("py-spy", path=os.pathsep.join([search_path, beside_python]))
    if program is None:
        return dict(found), ["py-spy is not installed (pip install py-spy): no native frames"]
    of_here = {rank: each for rank, each in found.items() if _parent_of(each.where.pid) in parents}
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        dumps = pool.map(lambda each: _native_stack(program, each.where.pid), of_here.values())
        seen, reasons = dict(found), dict[str, list[int]]()
        for (rank, each), (stack, problem) in zip(of_here.items(), dumps, strict=True):
            if problem:
                reasons.setdefault(problem, []).append(rank)
            else:
                seen[rank] = each._replace(where=each.where._replace(stack=stack))
    if elsewhere := sorted(found.keys() - of_here.keys()):
        reasons["it has ended, or runs on another host or in another container"] = elsewhere
    return seen, [
        f"no native frames of {_ranks(ranks)}: {reason}" for reason, ranks in reasons.items()
    ]


def _parent_of(pid: int) -> int | None:
    """Return the parent of a process; None: there is no such process here."""
    import psutil  # few look for native frames

    try:
        return int(psutil.Process(pid).ppid())
    except (psutil.Error, ValueError, OverflowError):  # another node may say any number
        return None


def _native_stack(program: str, pid: int) -> tuple[str, str]:
    """Return what py-spy shows of a process, and why it shows nothing: one of them is empty."""
    try:
        done = subprocess.run(
            [program, "dump", "--native", "--pid", str(pid)],
            capture_output=True,
            timeout=_NATIVE_S,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"py-spy: {error}"
    if done.returncode:
        reason = _NUMBERS.sub("the process", " ".join(done.stderr.split()))
        return "", f"py-spy: {reason[:_MOST_REASON_CHARS] or f'exit code {done.returncode}'}"
    return done.stdout.strip(), ""


def _ranks(numbers: Sequence[int]) -> str:
    return f"{'rank' if len(numbers) == 1 else 'ranks'} {spans(numbers)}"
