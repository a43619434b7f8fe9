"""Keeps ``report.json``: what a job did on this node, attempt by attempt, as JSON.

It is rewritten at each change and whole at every moment. ``docs/report.md`` describes it, and
``docs/report.schema.json`` is its schema.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from ...rendezvous.api.handler import RendezvousInfo, Verdict
from ..failures.failure import NOT_AVAILABLE
from ..failures.report import JobReport, RootCause
from ..output.whole_file import WholeFile
from ..workers.worker import RunResult, WorkerGroup
from .observer import Moment, Observer
from .policy import DELAY, DOUBT, END_STEPS, GIVE_UP, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..failures.stack_places import Whereabouts
    from ..workers.worker import Worker
    from .observer import Heard

VERSION = 1
MOST_ATTEMPTS = 200
MOST_STACK_CHARS = 100_000
BEGINNING = b'{\n "version": '
_ATTEMPTS = '\n "attempts": ['


class ReportFile(Observer):
    """Writes down what an agent does.

    Args:
        files: Where.
        about: What is known before: the elrun version, the job's name, its config.
        group: The agent's workers; None: there is no agent.
        began_at: When the job began, if that is a while ago; see ``replay``.
    """

    def __init__(
        self,
        files: Sequence[WholeFile],
        about: Mapping[str, Any],
        group: WorkerGroup | None = None,
        began_at: Moment | None = None,
    ) -> None:
        self._files = files
        self._group = group
        self._past = began_at
        self._workers: tuple[Worker, ...] | None = None
        self._began_at = self._moment()
        self._attempt_began_at = self._began_at
        attempts: list[dict[str, Any]] = []
        self._report: dict[str, Any] = {
            "version": VERSION,
            **about,
            "node": os.uname().nodename,
            "agent_pid": os.getpid(),
            "state": "running",
            "exit_code": None,
            "reason": "",
            "began_at": self._now(),
            "ended_at": None,
            "duration_s": None,
            "attempts_left_out": 0,
            "attempts": attempts,
            "root": None,
            "ranks": [],
            "missing_nodes": [],
            "places": None,
        }
        self._past = None
        self._lock = threading.Lock()
        # Written under the lock only: `places` may save the report while the loop adds an attempt.
        self._attempts = attempts
        self._past_texts: list[str] = []  # of all attempts but the last: they change no more

    def begin(self) -> None:
        """Write the first version.

        Raises:
            OSError: It can't be written.
        """
        self._files[0].write_first(self._text(), begins_with=BEGINNING)

    def replay(self, heard: Iterable[Heard]) -> None:
        """Take what an agent has done so far, as it was then."""
        for moment, workers, call in heard:
            self._past, self._workers = moment, workers
            call(self)
        self._past = self._workers = None
        self._save()

    def joined(self, info: RendezvousInfo) -> None:
        """Begin an attempt: this node has a place in a round."""
        place = info.placement
        self._attempt_began_at = self._moment()
        attempt: dict[str, Any] = {
            "round": None if place is None else place.round,
            "group_rank": info.rank,
            "group_world_size": info.world_size,
            "world_size": None if place is None else place.world_size,
            "restarts_before": None if place is None else place.restart_count,
            "began_at": self._now(),
            "ended_at": None,
            "duration_s": None,
            "workers": [],
            "end": None,
            "failures": [],
        }
        with self._lock:
            if self._attempts:
                self._past_texts.append(_indented(self._attempt))
            self._attempts.append(attempt)
            if len(self._attempts) > MOST_ATTEMPTS:
                del self._attempts[1], self._past_texts[1]  # the first one stays, and the latest
                self._report["attempts_left_out"] += 1
        self._save()

    def workers_started(self) -> None:
        """Add the workers to the attempt."""
        self._attempt["workers"] = [
            {
                "rank": worker.global_rank,
                "local_rank": worker.local_rank,
                "pid": worker.id if isinstance(worker.id, int) else None,
            }
            for worker in self._workers or (self._group.workers if self._group else ())
        ]
        self._save()

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Add how the round ended, and what this node does then."""
        if step not in END_STEPS or self._attempt["end"] is not None:
            return
        details: Mapping[str, Any] = {} if verdict is None else verdict.details
        self._attempt["end"] = {
            "verdict": None if verdict is None else verdict.kind.value,
            "by_group_rank": None if verdict is None else verdict.by,
            "reason": "" if verdict is None else verdict.reason,
            "then": END_STEPS[step],
            "restart_delay_s": details.get(DELAY, 0.0) if step is Step.RESTART else None,
            "doubt": str(details.get(DOUBT, "")),
            "no_restart": str(details.get(GIVE_UP, "")),
            "root": _root_in(details),
        }
        self._end_attempt(at or self._moment())
        self._save()

    def workers_ended(self, result: RunResult) -> None:
        """Add this node's failures to the attempt."""
        self._attempt["failures"] = [
            {
                "rank": rank,
                "local_rank": failure.local_rank,
                "pid": failure.pid,
                "exitcode": failure.exitcode,
                "message": failure.summary,
                "exception": failure.exception,
                "error_file": "" if failure.error_file == NOT_AVAILABLE else failure.error_file,
            }
            for rank, failure in result.failures.items()
        ]
        self._save()

    def places(self, why: str, found: Mapping[int, Whereabouts]) -> bool:
        """Keep where this node's ranks were when it was asked last."""
        self._report["places"] = {
            "at": self._now(),
            "why": why,
            "ranks": [
                {
                    "rank": rank,
                    "pid": each.pid,
                    "place": each.place,
                    "silence": each.silence,
                    "stack": each.stack[:MOST_STACK_CHARS],
                }
                for rank, each in sorted(found.items())
            ],
        }
        self._save()
        return True

    def finish(
        self, state: str, exit_code: int, reason: str, report: JobReport | None = None
    ) -> None:
        """Write the last version, and wait for it a little.

        Args:
            state: How the job ended on this node: one of the schema's words.
            exit_code: elrun's.
            reason: Why, as a sentence; empty after a success.
            report: How each rank of the job ended, if workers failed.
        """
        if self._attempts and self._attempt["ended_at"] is None:
            self._end_attempt(self._moment())
        self._report |= {
            "state": state,
            "exit_code": exit_code,
            "reason": reason,
            "ended_at": self._now(),
            "duration_s": round(self._moment().since(self._began_at), 3),
        }
        if report is not None:
            self._report |= {
                "root": report.root.to_json(),
                "ranks": [rank.to_json() for rank in report.ranks],
                "missing_nodes": list(report.missing_nodes),
            }
        self._save()
        for file in self._files:
            file.settle()

    @property
    def _attempt(self) -> dict[str, Any]:
        return self._attempts[-1]

    def _end_attempt(self, at: Moment) -> None:
        self._attempt["ended_at"] = utc_text(at.on_clock_of(self._began_at))
        self._attempt["duration_s"] = round(at.since(self._attempt_began_at), 3)

    def _moment(self) -> Moment:
        return self._past or Moment.now()

    def _now(self) -> str:
        return utc_text(self._moment().on_clock_of(self._began_at))

    def _save(self) -> None:
        if self._past is not None:  # what is past is written once all of it has been taken
            return
        with self._lock:  # of two threads, the later one has the newer text
            text = self._text()
            for file in self._files:
                file.write(text)

    def _text(self) -> bytes:
        """Return the report as JSON; what it costs does not grow with the number of attempts."""
        if not self._attempts:
            return json.dumps(self._report, indent=1).encode() + b"\n"
        frame = json.dumps({**self._report, "attempts": [0]}, indent=1)
        begin, _, end = frame.partition(f"{_ATTEMPTS}\n  0")
        attempts = ",".join([*self._past_texts, _indented(self._attempt)])
        return f"{begin}{_ATTEMPTS}{attempts}{end}\n".encode()


def _indented(attempt: Mapping[str, Any]) -> str:
    """Return an attempt as it stands in the list of attempts."""
    return "\n".join(["", *json.dumps(attempt, indent=1).split("\n")]).replace("\n", "\n  ")


def utc_text(wall_s: float) -> str:
    """Return a time as ISO 8601 has it, with milliseconds.

    By hand: ``datetime`` takes longer to load than a report to write.

    Args:
        wall_s: Seconds since the epoch.
    """
    milliseconds = round(wall_s * 1e6) // 1000
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{moment}.{milliseconds % 1000:03d}+00:00"


def _root_in(details: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return RootCause.from_json(dict(details)).to_json()
    except ValueError:  # the round did not end by a worker's failure
        return None
