"""``run.json`` in the folder of a run: what those need to know that look for a run.

It tells which run this is, and where the log files of each attempt are, also when the agent has
gone or does not answer.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

RECORD = "run.json"
SOCKET = "control"
"""The name of the agent's socket in the same folder."""
VERSION = 1


def record_text(about: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of the file.

    Args:
        about: What is known of the run from the start.
        attempts: Ranks and log files of each attempt.
    """
    return json.dumps({"version": VERSION, **about, "attempts": list(attempts)}).encode() + b"\n"
