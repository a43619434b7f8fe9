"""Reads what this node's failed workers left, and puts the cause before its consequences."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from ...rendezvous.named_tuple import NamedTuple
from ..failures.cause import Symptoms, in_order, is_consequence, lost_peer_in
from ..failures.chain import causes_in
from ..failures.failure import NOT_AVAILABLE, ProcessFailure
from ..failures.last_words import (
    LastWords,
    Speech,
    abort_reason_in,
    last_words_in,
    tells_of_another_process,
    words_before_traceback,
)
from ..processes.start import PContext

TAIL_BYTES = 64 << 10
"""How much of the end of a worker's output is looked through."""

MAX_WORDS_CHARS = 300
"""How much the nodes tell each other of what a worker said."""

_MOST_OF_A_MESSAGE = 4_000


class Finding(NamedTuple):
    """What is known of one failed worker.

    Args:
        failure: Its end, and its error file.
        said: What it said last: in its error file, else in its output.
        of_child: What was printed before, where its exception only tells that another process
            failed; may be empty.
        log_file: Where it said that, if that is not the first of its log files; else empty.
    """

    failure: ProcessFailure
    said: LastWords
    of_child: str = ""
    log_file: str = ""

    @property
    def words(self) -> str:
        """What went wrong, in one line; empty where nothing but the exit code tells it."""
        return self.said.words

    @property
    def words_with_lost_peer(self) -> str:
        """What went wrong, and the loss of a peer that led to it, if its own words hide that."""
        lost = lost_peer_in(each.words for each in causes_in(self.said.text))
        if not lost or is_consequence(self.words):
            return self.words[:MAX_WORDS_CHARS]
        return f"{self.words[: MAX_WORDS_CHARS // 2]} (caused by {lost[:MAX_WORDS_CHARS]})"

    @property
    def is_consequence(self) -> bool:
        """Whether the worker failed because another rank, or a store, has gone."""
        return is_consequence(_message_of(self))

    @property
    def has_record(self) -> bool:
        """Whether the worker left an error file."""
        return self.failure.error_file != NOT_AVAILABLE


def findings_about(
    failures: Mapping[int, ProcessFailure], processes: PContext, named: int | None = None
) -> dict[int, Finding]:
    """Return what is known of failed workers, the root cause first, consequences last.

    Args:
        failures: This node's failed workers by global rank, the first one first.
        processes: Where their files are known, and when they ended.
        named: The rank that the other nodes were told of as the root cause, as in ``root_of``.
    """
    findings = {rank: _finding_about(failure, processes) for rank, failure in failures.items()}
    moments = _moments_of(failures, processes)
    symptoms = {rank: Symptoms(_message_of(each), moments[rank]) for rank, each in findings.items()}
    return {rank: findings[rank] for rank in in_order(symptoms, named)}


def _finding_about(failure: ProcessFailure, processes: PContext) -> Finding:
    said = _said_by(failure, processes)
    if failure.exitcode < 0:
        return Finding(failure, said)
    if failure.error_file == NOT_AVAILABLE:
        return (
            Finding(failure, said) if said.words else _finding_in_stdout(failure, said, processes)
        )
    words = "\n".join([said.words, *(cause.words for cause in causes_in(said.text))])
    if not tells_of_another_process(words):
        return Finding(failure, said)
    file = processes.end_of_log(failure.local_rank, TAIL_BYTES)
    printed = file.text.decode(errors="replace")
    return Finding(failure, said, words_before_traceback(printed, words, is_whole=file.is_whole))


def _finding_in_stdout(failure: ProcessFailure, said: LastWords, processes: PContext) -> Finding:
    """Return what a worker said in the log file of its standard output, if that tells more."""
    path, file = processes.end_of_stdout(failure.local_rank, TAIL_BYTES)
    found = last_words_in(file.text.decode(errors="replace"), is_whole=file.is_whole)
    if found.words:
        return Finding(failure, found, log_file=path)
    return Finding(failure, said)


def _said_by(failure: ProcessFailure, processes: PContext) -> LastWords:
    if (
        failure.cause
    ):  # elrun itself has found it, and the end of the output is about something else
        return LastWords(failure.summary, failure.traceback or "", Speech.CRASH)
    has_record = failure.error_file != NOT_AVAILABLE
    if has_record and failure.exitcode >= 0:
        return LastWords(failure.summary, failure.traceback or "", Speech.TRACEBACK)
    if has_record and failure.exception:  # it came first; an abort on the way out says less
        return LastWords(failure.summary, failure.traceback or "", Speech.CRASH)
    file = processes.end_of_log(failure.local_rank, TAIL_BYTES)
    printed = file.text.decode(errors="replace")
    said = last_words_in(printed, is_whole=file.is_whole)
    if failure.exitcode >= 0:
        return said
    stack = failure.traceback or ""
    is_abort = failure.exitcode == -signal.SIGABRT and said.speech is not Speech.TERMINATE
    if reason := abort_reason_in(printed) if is_abort else "":
        text = stack if has_record else said.text
        return LastWords(reason, "\n\n".join(filter(None, [reason, text])), Speech.TERMINATE)
    if said.speech is Speech.TERMINATE:
        return said._replace(text="\n\n".join(filter(None, [said.text, stack])))
    if has_record:
        return LastWords(failure.summary, failure.traceback or "", Speech.CRASH)
    # A traceback or a line may be long ago: no reason for a signal.
    return said if said.speech is Speech.CRASH else said._replace(words="")


def _message_of(finding: Finding) -> str:
    failure = finding.failure
    is_stack = failure.exitcode < 0 and not failure.exception  # its words may be of the output
    if is_stack or not finding.has_record:
        return finding.words_with_lost_peer
    if lost := lost_peer_in(each.words for each in causes_in(finding.said.text)):
        return lost
    message = finding.failure.message
    text = message.get("message", "") if isinstance(message, dict) else message
    return str(text)[:_MOST_OF_A_MESSAGE]


def _moments_of(failures: Mapping[int, ProcessFailure], processes: PContext) -> dict[int, float]:
    """Return when workers failed, by this node's clock: when they said so, else when they ended."""
    written = processes.error_file_times(failure.local_rank for failure in failures.values())
    since_start_s = time.time() - time.monotonic()
    moments = {}
    for rank, failure in failures.items():
        end = processes.exits.get(failure.local_rank)
        ended_at = end.ended_at if end else time.monotonic()
        written_ns = written.get(failure.local_rank)
        moments[rank] = written_ns / 1e9 if written_ns else ended_at + since_start_s
    return moments
