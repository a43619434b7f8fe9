"""What each request to the control socket gets; the server's thread calls this."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from ..serving.http_messages import Answer
from .standing import standing_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .watched import Watched

FRESH_S = 0.2
"""For how long an answer is given again: a flood of requests makes one every 0.2 s."""

_JSON = "application/json"


class Answers:
    """Answers requests about one agent.

    Args:
        watched: The agent.
        clock: A monotonic clock.
    """

    def __init__(self, watched: Watched, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = watched
        self._clock = clock
        self._status = b""
        self._status_at = float("-inf")
        self.recheck: Callable[[], None] = lambda: None
        """Has ``respond`` called again for requests that wait; from any thread."""

    def respond(self, path: str, _asked_at: float, _is_last_chance: bool) -> Answer | None:
        """Return the answer to a request; None: there is none yet."""
        try:
            return self._respond(path)
        except RuntimeError:  # workers were started just now, while they were counted
            return Answer(503, "the agent is busy: ask again\n")

    def _respond(self, path: str) -> Answer | None:
        match path.split("/")[1:]:
            case ["status"]:
                return Answer(200, self._standing(), _JSON)
            case _:
                return Answer(404, "there is no such request\n")

    def _standing(self) -> bytes:
        now = self._clock()
        if now - self._status_at >= FRESH_S:
            self._status = json.dumps(standing_of(self._watched, now)).encode() + b"\n"
            self._status_at = now
        return self._status
