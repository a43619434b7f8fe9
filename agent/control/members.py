"""Asks all nodes of the job what one of them is asked, and answers what another one asks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from ...rendezvous.errors import RendezvousError, RendezvousTimeoutError
from ...rendezvous.logs import Log
from ...rendezvous.threads import Call, NoThreadError
from ..json_objects import object_in
from ..system.process_usage import usage_of_process
from .places import places_here
from .standing import standing_of
from .watched import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .watched import Watched

log = Log(__name__)

STACKS, STATUS, HURRY = "stacks", "status", "hurry"

ANSWERS_S = {STACKS: 8.0, STATUS: 2.0}
"""How long the nodes have for their answers, all together."""

_THREAD = "elrun-answer"
_MOST_AT_ONCE = 16
"""How many questions are answered at once, each by a thread; people ask one after the other."""

_ERRORS = (RendezvousError, OSError, ValueError)


class Members:
    """The nodes of the job, this one included."""

    def __init__(self, watched: Watched, clock: Callable[[], float]) -> None:
        self._watched = watched
        self._clock = clock
        self._answering: list[Call[None]] = []

    def ask_all(self, what: str) -> dict[str, Any]:
        """Return what each node answers; this may take as long as ``ANSWERS_S`` says."""
        group = self._watched.group
        size = group.group_world_size or 1
        problem = ""
        if size > 1:
            try:
                if self._can_ask:
                    return self._answers_to(self._announce(what), what)
                problem = "this rendezvous carries no messages between nodes"
            except _ERRORS as error:
                problem = f"the other nodes can't be asked: {error}"
        mine = {**self._own(what), "group_rank": group.group_rank}
        missing = [rank for rank in range(size) if rank != group.group_rank]
        return {"nodes": [mine], "missing": missing, "problem": problem}

    @property
    def _can_ask(self) -> bool:
        return self._watched.progress()[0] is not None and bool(self._watched.rounds.meeting_place)

    def _announce(self, what: str) -> int:
        """Ask all members of the round; return the question's number."""
        notice = json.dumps({"ask": what, "by": self._watched.group.group_rank, "id": _unlike()})
        number = self._watched.mailbox.next_number(self._watched.progress()[0] or 0)
        while self._watched.rounds.announce(TOPIC, number, notice.encode()) != notice.encode():
            number += 1  # another node has asked meanwhile
        return number

    def _answers_to(self, number: int, what: str) -> dict[str, Any]:
        from datetime import timedelta  # few jobs are asked

        store, size = self._watched.group.store, self._watched.group.group_world_size or 1
        with contextlib.suppress(RendezvousTimeoutError):  # who has answered is shown
            store.wait([_all_of(number)], timedelta(seconds=ANSWERS_S[what]))
        nodes, missing = [], []
        for rank in range(size):
            key = _answer_of(rank)
            answer = store.get(key) if store.check([key]) else b""
            try:
                nodes.append({**_object_after(number, answer), "group_rank": rank})
            except ValueError:
                missing.append(rank)
        return {"nodes": nodes, "missing": missing, "problem": ""}

    def hear(self, notices: Sequence[tuple[int, bytes]]) -> None:
        """Answer, in a thread, what nodes have asked.

        Args:
            notices: What they have asked, with the numbers of their questions.
        """
        for number, data in notices:
            match _wish_in(data):
                case str(what) if what == HURRY:
                    self._watched.inbox.request_stop(now=True)
                case str(what) if what in ANSWERS_S:
                    self._answer(number, what)

    def hurry(self) -> None:
        """Let all nodes kill their workers at once, which are being stopped."""
        if (self._watched.group.group_world_size or 1) > 1:
            try:
                Call(self._try_to_hurry, _THREAD, or_here=False)
            except NoThreadError as error:
                log.info("the other nodes are not told to hurry: %s", error.strerror)

    def _try_to_hurry(self) -> None:
        try:
            self._announce(HURRY)
        except _ERRORS as error:
            log.info("the other nodes are not told to hurry: %s", error)

    def _answer(self, number: int, what: str) -> None:
        def answer() -> None:
            group = self._watched.group
            store, rank, size = group.store, group.group_rank, group.group_world_size or 1
            data = b"%d %s" % (number, json.dumps(self._own(what)).encode())
            try:
                store.set(_answer_of(rank), data)
                if store.add(f"{TOPIC}/count/{number}", 1) >= size:
                    store.set(_all_of(number), b"1")
            except _ERRORS as error:
                log.info("another node was not answered: %s", error)

        self._answering = [each for each in self._answering if not each.is_done]
        if len(self._answering) >= _MOST_AT_ONCE:
            log.info("another node was not answered: %d others are", _MOST_AT_ONCE)
            return
        try:
            self._answering.append(Call(answer, _THREAD, or_here=False))
        except NoThreadError as error:
            log.info("another node was not answered: %s", error.strerror)

    def _own(self, what: str) -> dict[str, Any]:
        if what == STATUS:
            standing = standing_of(self._watched, self._clock())
            for worker in standing["workers"]:
                worker.update(_usage_of(worker["pid"]))
            return standing
        return {"node": os.uname().nodename, "ranks": places_here(self._watched)}


def _usage_of(pid: int | None) -> dict[str, Any]:
    """Return what a worker uses, of one CPU since its start, and of memory."""
    usage = None if pid is None else usage_of_process(pid)
    if usage is None:
        return {}
    started_s = usage.started_ticks / os.sysconf("SC_CLK_TCK")
    lives_s = max(0.01, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    percent = round(100 * usage.cpu_s / lives_s, 1)
    return {"cpu_percent": percent, "memory_bytes": usage.memory_bytes}


def _answer_of(group_rank: int | None) -> str:
    """Return the key of a member's latest answer, in the place of the one before."""
    return f"{TOPIC}/answer/{group_rank}"


def _all_of(number: int) -> str:
    """Return the key of the mark that all members have answered a question."""
    return f"{TOPIC}/all/{number}"


def _object_after(number: int, answer: bytes) -> dict[str, Any]:
    """Return what an answer to a question says.

    Raises:
        ValueError: It answers another one, or is no answer.
    """
    head, _, data = answer.partition(b" ")
    if head != b"%d" % number:
        raise ValueError("this answers another question")
    return object_in(data)


def _wish_in(notice: bytes) -> object:
    """Return what a notice asks for; None: it is none."""
    try:
        return object_in(notice).get("ask")
    except ValueError:
        return None


def _unlike() -> str:
    return os.urandom(4).hex()
