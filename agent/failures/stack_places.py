"""Says in a few words where Python processes were, from the stacks that ``faulthandler`` writes.

What a person wants to know of a job that hangs is which ranks wait in which collective, and which
rank is somewhere else. So a stack becomes its innermost line of the user's own code, and the
function of a library that this line has called.
"""

from __future__ import annotations

import enum
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, takewhile

from ...rendezvous.named_tuple import NamedTuple
from .traceback_place import is_of_user

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x")
_FOLDER_OF_LIBRARIES = re.compile(r".*[/\\](?:site-packages|dist-packages|python3\.\d+t?)[/\\]")
FROZEN_IMPORT = "<frozen importlib"
"""What stands in the frames of Python's import system, of which each import has several."""

IMPORT = "the import"
"""The place of a process that imports a module begins so: ``the import of torch (train.py:1)``."""

_MODULE = "<module>"
_WRAPPERS = ("wrapper", "decorate_context", "inner", "_fn", "_call_impl", "_wrapped_call_impl")
_WAITS_FOR_PEERS = re.compile(
    r"_?(?:all_|batch_isend|barrier|broadcast|gather|init_process_group|irecv|isend|monitored_"
    r"|new_group|recv|reduce(?!r)|scatter|send|synchronize|wait)\w*$"
)
"""Functions of ``torch.distributed`` in which a rank waits until its peers come."""

_COLLECTIVES = f"{os.sep}torch{os.sep}distributed{os.sep}"
CHILD_TITLE = "child process "
"""What stands before each child's stack, below the worker's own."""

_WAITS_FOR_CHILDREN = (
    *("__next__", "communicate", "get", "join", "map", "next"),
    *("poll", "recv", "result", "run", "starmap", "wait"),
)
_BEGINNINGS = ("_bootstrap", "_worker_loop")
"""Where ``multiprocessing`` and torch's DataLoader begin what a child runs."""

_MOST_CHARS = 1_000
_PLURALS = {
    "is": "are",
    "has": "have",
    "runs": "run",
    "blocks": "block",
    "gives": "give",
}


class Oddness(enum.IntEnum):
    """How likely it is that the other ranks wait for one: the highest is most likely."""

    WAITS_FOR_PEERS = 0
    ELSEWHERE = 1
    SILENT = 2
    HELD = 3


class Standing(NamedTuple):
    """What is known of one rank of a job that hangs.

    Args:
        clause: Where it is, as that follows ``rank 3`` in a sentence.
        oddness: How likely it is that the others wait for it.
    """

    clause: str
    oddness: Oddness


class Whereabouts(NamedTuple):
    """Where one rank is.

    Args:
        pid: Its process id.
        place: Its place, as ``place_in`` returns it; empty if it has not said that.
        silence: Why it has not, as that follows ``rank 3`` in a sentence.
        stack: Its whole stack: Python's, else the kernel's; may be empty.
        is_held: Whether its process, or a child process of it, is stopped or in an uninterruptible
            wait.
    """

    pid: int
    place: str
    silence: str
    stack: str
    is_held: bool = False

    @property
    def clause(self) -> str:
        """The place, or why it is unknown, as it follows ``rank 3`` in a sentence."""
        return f"in {self.place}" if self.place else self.silence

    @property
    def standing(self) -> Standing:
        """What the search for the odd rank has to know of it."""
        if self.is_held:
            return Standing(self.clause, Oddness.HELD)
        if not self.place:
            return Standing(self.clause, Oddness.SILENT)
        waits = _waits_for_peers(self.stack.partition(f"\n{CHILD_TITLE}")[0], self.place)
        return Standing(self.clause, Oddness.WAITS_FOR_PEERS if waits else Oddness.ELSEWHERE)


def place_in(stacks: str) -> str:
    """Return where the main thread was: ``all_reduce (train.py:88)``; empty if nothing tells.

    Args:
        stacks: What faulthandler writes of all threads; the main thread stands last.
    """
    frames = _frames_in(stacks)
    called = ""
    for file, line, function in frames:  # the innermost first
        if is_of_user(file):
            return f"{called or function} ({os.path.basename(file)}:{line})"
        if file.startswith(FROZEN_IMPORT):
            called = called or IMPORT
        elif function == _MODULE:
            called = f"{IMPORT} of {_module_of(file)}"
        elif function not in _WRAPPERS:
            called = function
    own = [frame for frame in frames if not frame[0].startswith(FROZEN_IMPORT)]
    if not own:
        return ""
    file, line, function = own[0]
    return f"{function} ({os.path.basename(file)}:{line})"


def _module_of(file: str) -> str:
    """Return the name of a library's module, from its path."""
    parts = _FOLDER_OF_LIBRARIES.sub("", file).removesuffix(".py").split(os.sep)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def own_place_in(stacks: str) -> str:
    """Return where a child process was in the user's code that it runs itself; else nothing.

    Below that code are the frames of its parent, which it has been forked with.

    Args:
        stacks: As in ``place_in``.
    """
    for file, line, function in _frames_in(stacks):
        if function in _BEGINNINGS:
            return ""
        if is_of_user(file):
            return f"{function} ({os.path.basename(file)}:{line})"
    return ""


def _waits_for_peers(stack: str, place: str) -> bool:
    """Return whether a process waits for its peers: an ``Event.wait`` of Python's does not."""
    if not stack:  # another node tells the place alone
        return _WAITS_FOR_PEERS.match(place.partition(" (")[0]) is not None
    frames = takewhile(lambda frame: not is_of_user(frame[0]), _frames_in(stack))
    return any(_COLLECTIVES in file and _WAITS_FOR_PEERS.match(name) for file, _, name in frames)


def waits_for_child(place: str) -> bool:
    """Return whether processes wait for a child of theirs at a place, as that of a DataLoader."""
    return place.partition(" (")[0] in _WAITS_FOR_CHILDREN


def _frames_in(stacks: str) -> list[tuple[str, str, str]]:
    """Return file, line and function of the main thread's frames, the innermost first."""
    frames: list[tuple[str, str, str]] = []
    for line in stacks.splitlines():
        if _THREAD.match(line):
            frames = []
        elif found := _FRAME.match(line):
            frames.append((found[1], found[2], found[3]))
    return frames


def folded(places: Mapping[int, str]) -> str:
    """Return where ranks are, equal ones together.

    Args:
        places: Places by global rank.

    Returns:
        ``ranks 0-6 in all_reduce (train.py:88); rank 7 in load_batch (data.py:31)``, where most
        ranks are first.
    """
    return folded_clauses({rank: f"in {place}" for rank, place in places.items()})


def folded_clauses(clauses: Mapping[int, str]) -> str:
    """Return what is known of ranks, equal ones together, as ``folded`` does.

    Args:
        clauses: What follows each rank in the sentence, by global rank.
    """
    ranks_of: dict[str, list[int]] = {}
    for rank in sorted(clauses):
        ranks_of.setdefault(clauses[rank], []).append(rank)
    by_number = sorted(ranks_of.items(), key=lambda item: (-len(item[1]), item[1]))
    return _clipped("; ".join(_said_of(ranks, clause) for clause, ranks in by_number))


def clause_of(ranks: Sequence[int], clause: str) -> str:
    """Return what is known of ranks, as it follows them: several *have* ended."""
    if len(ranks) <= 1:
        return clause
    verb, _, rest = clause.partition(" ")
    return f"{_PLURALS.get(verb, verb)} {rest}"


def sentence_of(found: Mapping[int, Whereabouts]) -> str:
    """Return where ranks are, and why others have not said that, equal ones together.

    Args:
        found: What is known of each, by global rank.
    """
    known = {rank: each.clause for rank, each in found.items() if each.place}
    silent = {rank: each.clause for rank, each in found.items() if not each.place}
    return _clipped("; ".join(map(folded_clauses, filter(None, (known, silent)))))


def odd_ones(standings: Mapping[int, Standing]) -> list[int]:
    """Return the ranks that the others most likely wait for: one, or several that are alike.

    That is a rank that is stopped or in an uninterruptible wait, else one that shows no stack, else
    one that does not wait for its peers. Of several, those at the places of the fewest count.

    Args:
        standings: What is known of each rank, at least one.
    """
    most = max(each.oddness for each in standings.values())
    counts = Counter(each.clause for each in standings.values())
    candidates = [rank for rank, each in standings.items() if each.oddness == most]
    fewest = min(counts[standings[rank].clause] for rank in candidates)
    return sorted(rank for rank in candidates if counts[standings[rank].clause] == fewest)


def doubt_about(odd: Sequence[int], ranks: int) -> str:
    """Say that the rank which is named has equals; empty: it has none.

    Args:
        odd: What ``odd_ones`` has returned; the first of them is named.
        ranks: How many ranks there are.
    """
    if len(odd) == 1:
        return ""
    alike = "no rank stands out" if len(odd) == ranks else f"{_ranks(odd)} stand out alike"
    return f"{alike}, and rank {odd[0]} is named for all of them"


def whole_text(found: Mapping[int, Whereabouts]) -> str:
    """Return the whole stacks of ranks, as a file has them."""
    return "\n".join(
        f"rank {rank} (pid {each.pid}): {each.place or each.silence}\n{each.stack}\n"
        for rank, each in sorted(found.items())
    )


def _clipped(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"


def _said_of(ranks: list[int], clause: str) -> str:
    return f"{_ranks(ranks)} {clause_of(ranks, clause)}"


def _ranks(ranks: Sequence[int]) -> str:
    spans = []
    for _, run in groupby(enumerate(ranks), key=lambda pair: pair[1] - pair[0]):
        members = [rank for _, rank in run]
        spans.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return f"{'ranks' if len(ranks) > 1 else 'rank'} {', '.join(spans)}"
