"""The verbs: first words that are no SCRIPT, as ``--help`` and the shells' completion show them."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Verb(NamedTuple):
    """What elrun does when its first word is a verb.

    Args:
        options: The verb's own options; each with the values that are worth an offer, or None if
            it is a flag. None: what follows are the options of a job, and SCRIPT.
    """

    help: str
    options: Mapping[str, tuple[str, ...] | None] | None


VERBS: Mapping[str, Verb] = {
    "status": Verb(
        "How a job stands, or how it has ended.",
        {"--watch": None, "--all": None, "--format": ("text", "json")},
    ),
    "stacks": Verb("Where each rank of a job is, on all nodes.", {"--rank": (), "--native": None}),
    "logs": Verb(
        "What the ranks of a job have printed.",
        {"--rank": (), "-f": None, "--follow": None, "--grep": (), "--merge": None},
    ),
    "stop": Verb("End a job, on all its nodes.", {"--now": None}),
    "report": Verb(
        "What a run did: a summary, or a page for a browser.", {"-o": (), "--output": ()}
    ),
    "doctor": Verb("What a job would meet, before it runs.", None),
    "run": Verb("Run SCRIPT, also if it is called like a verb.", None),
}
"""They stand first, and mean a file if there is one of that name."""
