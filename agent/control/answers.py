"""What each request to the control socket gets; the server's thread calls this."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from ...rendezvous.threads import Call, NoThreadError
from ..serving.http_messages import Answer
from .members import STACKS, STATUS, Members
from .standing import standing_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .watched import Watched

FRESH_S = 0.2
"""For how long an answer is given again: a flood of requests makes one every 0.2 s."""

FRESH_OF_ALL_S = {STACKS: 1.0, STATUS: 10.0}
"""The same of what all nodes are asked."""

_JSON = "application/json"
_THREAD = "elrun-question"


class Answers:
    """Answers requests about one agent."""

    def __init__(
        self,
        watched: Watched,
        members: Members,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._members = members
        self._clock = clock
        self._status = b""
        self._status_at = float("-inf")
        self._of_all: dict[str, tuple[float, dict[str, Any], bytes]] = {}
        self._calls: dict[str, Call[dict[str, Any]]] = {}
        self.recheck: Callable[[], None] = lambda: None
        """Has ``respond`` called again for requests that wait; from any thread."""

    def respond(self, path: str, _asked_at: float, is_last_chance: bool) -> Answer | None:
        """Return the answer to a request; None: there is none yet."""
        try:
            answer = self._respond(path)
        except RuntimeError:  # workers were started just now, while they were counted
            return Answer(503, "the agent is busy: ask again\n")
        if answer is None and is_last_chance:
            return Answer(503, "the nodes do not answer in time\n")
        return answer

    def _respond(self, path: str) -> Answer | None:
        match path.split("/")[1:]:
            case ["status"]:
                return Answer(200, self._standing(), _JSON)
            case ["nodes"]:
                return self._ask_all(STATUS)
            case ["stacks"]:
                return self._ask_all(STACKS)
            case ["output"]:
                return Answer(200, self._output(), _JSON)
            case ["stop"]:
                return self._stop(now=False)
            case ["stop", "now"]:
                return self._stop(now=True)
            case _:
                return Answer(404, "there is no such request\n")

    def _standing(self) -> bytes:
        now = self._clock()
        if now - self._status_at >= FRESH_S:
            self._status = json.dumps(standing_of(self._watched, now)).encode() + b"\n"
            self._status_at = now
        return self._status

    def _ask_all(self, what: str) -> Answer | None:
        """Ask all nodes in a thread; whoever asks meanwhile gets the same answer."""
        at, found, body = self._of_all.get(what, (float("-inf"), {}, b""))
        call = self._calls.get(what)
        if call is not None and call.is_done:
            at, found = self._clock(), self._calls.pop(what).result()
            body = json.dumps(found).encode()
            self._of_all[what] = at, found, body
            call = None
        if call is None and self._clock() - at < FRESH_OF_ALL_S[what]:
            if what == STATUS:
                body = json.dumps({**found, "age_s": round(self._clock() - at, 3)}).encode()
            return Answer(200, body, _JSON)
        if call is None:
            try:
                self._calls[what] = Call(
                    lambda: self._members.ask_all(what), _THREAD, self.recheck, or_here=False
                )
            except NoThreadError as error:
                return Answer(503, f"the nodes can't be asked: {error.strerror}\n")
        return None

    def _output(self) -> bytes:
        """Return the kept end of what each worker has printed that has no log file."""
        context = self._watched.workers
        ends = {} if context is None else context.kept_ends()
        pids = {} if context is None else context.pids()  # they tell attempts from each other
        rank_of = {each.local_rank: each.global_rank for each in list(self._watched.group.workers)}
        found = {
            str(rank_of[at]): {
                "pid": pids.get(at),
                "printed": printed,
                "end": base64.b64encode(text).decode(),
            }
            for at, (text, _, printed) in ends.items()
        }
        return json.dumps({"ranks": found}).encode()

    def _stop(self, *, now: bool) -> Answer:
        self._watched.inbox.request_stop(now=now)
        if now:
            self._members.hurry()
        group = self._watched.group
        has_place = group.group_rank is not None
        answer = {
            "shutdown_timeout_s": 0 if now else self._watched.shutdown_timeout_s,
            "workers": group.workers[0].world_size if has_place else 0,
            "nodes": group.group_world_size if has_place else 0,
        }
        return Answer(200, json.dumps(answer), _JSON)
