"""Reads what nodes have kept of a run; whatever does not look like it is refused at this door."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ...agent.output.history_file import NAME as HISTORY
from ...agent.output.history_file import SAMPLE, read_history
from ...rendezvous.api.parameters import quoted
from ...rendezvous.named_tuple import NamedTuple
from ..commandline.arguments import Refusal
from ..terminal.console import printable

REPORT = "report.json"
MOST_REPORT_BYTES = 64 << 20
MOST_CHARS = 200_000
_TOO_MUCH = 1e18  # no measurement reaches it

_TEXT, _NUMBER, _WHOLE = (str,), (int, float), (int,)
_TEXT_OR_NONE, _NUMBER_OR_NONE = (str, type(None)), (int, float, type(None))
_WHOLE_OR_NONE = (int, type(None))
_ROOT: Mapping[str, Any] = {
    **dict.fromkeys(("global_rank", "local_rank", "pid", "exitcode", "timestamp"), _WHOLE),
    **dict.fromkeys(("node", "message", "traceback", "file", "kernel_words", "exception"), _TEXT),
}
_SHAPE: Mapping[str, Any] = {
    **dict.fromkeys(("run_id", "name", "node", "state", "reason", "began_at", "elrun"), _TEXT),
    "version": _WHOLE,
    "agent_pid": _WHOLE,
    "ended_at": _TEXT_OR_NONE,
    "exit_code": _WHOLE_OR_NONE,
    "duration_s": _NUMBER_OR_NONE,
    "attempts_left_out": _WHOLE,
    "config": {},
    "root": (_ROOT, None),
    "missing_nodes": [_WHOLE],
    "ranks": [
        {
            **dict.fromkeys(("node", "state", "file", "words"), _TEXT),
            **dict.fromkeys(("global_rank", "local_rank", "pid"), _WHOLE),
            "exitcode": _WHOLE_OR_NONE,
            "after_s": _NUMBER_OR_NONE,
        }
    ],
    "places": (
        {
            "at": _TEXT,
            "why": _TEXT,
            "ranks": [
                {"rank": _WHOLE, **dict.fromkeys(("place", "silence", "stack"), _TEXT)},
            ],
        },
        None,
    ),
    "attempts": [
        {
            **dict.fromkeys(("round", "world_size", "restarts_before"), _WHOLE_OR_NONE),
            **dict.fromkeys(("group_rank", "group_world_size"), _WHOLE),
            "began_at": _TEXT,
            "ended_at": _TEXT_OR_NONE,
            "duration_s": _NUMBER_OR_NONE,
            "workers": [{"rank": _WHOLE, "local_rank": _WHOLE, "pid": _WHOLE_OR_NONE}],
            "failures": [
                {
                    **dict.fromkeys(("rank", "local_rank", "pid", "exitcode"), _WHOLE),
                    **dict.fromkeys(("message", "exception", "error_file"), _TEXT),
                }
            ],
            "end": (
                {
                    **dict.fromkeys(("reason", "then", "doubt", "no_restart"), _TEXT),
                    "verdict": _TEXT_OR_NONE,
                    "by_group_rank": _WHOLE_OR_NONE,
                    "restart_delay_s": _NUMBER_OR_NONE,
                    "root": (_ROOT, None),
                },
                None,
            ),
        }
    ],
}


class NodeRecord(NamedTuple):
    """What one node has kept of a run.

    Args:
        path: Where its report was read.
        report: The report; ``docs/report.md`` describes it.
        history: The lines of its history; none where no history was kept.
    """

    path: str
    report: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    @property
    def began_at(self) -> float:
        """When the job began on this node, in seconds since the epoch by its clock."""
        return seconds_of(self.report["began_at"])

    @property
    def ended_at(self) -> float:
        """When the job ended there, or the latest time of which the node has told."""
        times = [self.began_at]
        if self.report["ended_at"]:
            times.append(seconds_of(self.report["ended_at"]))
        for attempt in self.report["attempts"]:
            times.append(seconds_of(attempt["began_at"]))
            if attempt["ended_at"]:
                times.append(seconds_of(attempt["ended_at"]))
        return max([*times, *(float(line["at"]) for line in self.history[-1:])])


def read_record(path: str) -> NodeRecord:
    """Return what a node has kept.

    Args:
        path: The folder of a run, or the file of a report.

    Raises:
        Refusal: There is no such thing.
    """
    file = os.path.join(path, REPORT) if os.path.isdir(path) else path
    try:
        with open(file, "rb", opener=_regular) as opened:
            data = opened.read(MOST_REPORT_BYTES)
    except OSError as error:
        raise Refusal(f"{quoted(file)} can't be read: {error.strerror}") from error
    try:
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{quoted(file)} is no report of elrun: it is no JSON") from error
    version = report.get("version") if isinstance(report, dict) else None
    if isinstance(version, int) and version != 1:  # its shape may be another one
        fault = f"its version is {version}, and this elrun reads version 1"
    else:
        fault = fault_in(report, _SHAPE) or _wrong_time_in(report)
    if fault:
        raise Refusal(f"{quoted(file)} is no report of elrun: {printable(fault)}")
    history: list[Mapping[str, Any]] = []
    with contextlib.suppress(OSError):  # none was kept
        lines = read_history(os.path.join(os.path.dirname(file), HISTORY))
        history = [line if line["kind"] == SAMPLE else cleaned(line) for line in lines]
    return NodeRecord(file, cleaned(report), sorted(history, key=lambda line: float(line["at"])))


def fault_in(value: Any, shape: Any, where: str = "") -> str:
    """Return what is wrong with a value, as a clause; empty: it has the shape.

    Args:
        shape: Types; the fields of an object that must be there; a list of one shape; or a shape
            and None, for what may be missing.
        where: Its place in the whole.
    """
    name = where or "it"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return next(filter(None, (fault_in(each, shape[0], name) for each in value)), "")
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return f"{name} is no object"
        for key, inner in shape.items():
            if key not in value:
                return f"{name} has no {key!r}"
            if fault := fault_in(value[key], inner, key):
                return fault
        return ""
    if shape[-1] is None:
        return "" if value is None else fault_in(value, shape[0], where)
    is_right = isinstance(value, shape) and not isinstance(value, bool)
    if is_right and isinstance(value, (int, float)):
        is_right = number_in(value) is not None
    return "" if is_right else f"{name} is {value!r:.40}"


def number_in(value: Any) -> float | None:
    """Return a number that can be reckoned with; None: it is none, or is beyond all measures."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < _TOO_MUCH else None  # no NaN either


def _wrong_time_in(report: Mapping[str, Any]) -> str:
    times = [report["began_at"], report["ended_at"]]
    for attempt in report["attempts"]:
        times += [attempt["began_at"], attempt["ended_at"]]
    return next((f"{each!r:.40} is no time" for each in times if each and not _is_time(each)), "")


def _is_time(text: str) -> bool:
    try:
        seconds_of(text)
    except (ValueError, OverflowError):
        return False
    return True


def cleaned(value: Any) -> Any:
    """Return a value whose texts can neither act on a terminal nor be too long."""
    if isinstance(value, str):
        return printable(shortened(value))
    if isinstance(value, dict):
        return {printable(str(key)): cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    return value


def shortened(text: str, most: int = MOST_CHARS) -> str:
    """Return a text, or its beginning and its end if it is longer than that."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half} characters are left out) …\n{text[-half:]}"


def seconds_of(text: str) -> float:
    """Return a moment of a report in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def _regular(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not hold anybody up
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(22, "it is no regular file")
