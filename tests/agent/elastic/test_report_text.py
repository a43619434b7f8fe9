"""The report is written as JSON attempt by attempt: its text is that of one dump of all of it."""

import json
import sys
import threading
from itertools import groupby
from types import SimpleNamespace

from elrun.agent.elastic import report_file
from elrun.agent.elastic.policy import Step
from elrun.agent.elastic.report_file import BEGINNING, ReportFile
from elrun.agent.workers.worker import RunResult, WorkerState
from elrun.rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind

FAILED = Verdict(VerdictKind.WORKER_FAILED, 0, 'it said "attempts": [\n  0\n ]')


class Versions:
    """Compares each version of a file with the report of that moment, dumped as a whole."""

    def __init__(self):
        self.report, self.last, self.count = None, b"", 0

    def write(self, text):
        assert json.dumps(self.report._report, indent=1).encode() + b"\n" == text
        assert text.startswith(BEGINNING)
        self.last, self.count = text, self.count + 1


def test_each_version_is_the_dump_of_the_whole_report(monkeypatch):
    """From the first attempt on, and when old attempts are left out."""
    monkeypatch.setattr(report_file, "MOST_ATTEMPTS", 5)
    versions = Versions()
    report = versions.report = ReportFile(
        [versions], {"name": 'a "job"', "config": {"attempts": []}}
    )
    versions.write(report._text())

    for _ in range(8):
        report.joined(RendezvousInfo(None, 0, 1, None))
        report.workers_started()
        report.round_ended(FAILED, Step.RESTART)
        report.workers_ended(RunResult(WorkerState.FAILED))

    assert 1 + 4 * 8 == versions.count
    assert 5 == len(json.loads(versions.last)["attempts"])


def test_another_thread_may_write_a_version_at_any_moment(monkeypatch):
    """A signal asks where ranks are while an attempt begins: no attempt stands there twice."""
    monkeypatch.setattr(report_file, "MOST_ATTEMPTS", 3)
    threads, found = [], []
    versions = SimpleNamespace(write=lambda text: found.append(ranks_in(text)))
    report = ReportFile([versions], {})

    def trace(frame, event, _):
        if frame.f_code is not ReportFile.joined.__code__:
            return None
        if event == "line":
            threads.append(threading.Thread(target=report.places, args=("a signal", {})))
            threads[-1].start()
            threads[-1].join(0.05)  # it may have to wait until the attempt has begun
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for rank in range(5):
            report.joined(RendezvousInfo(None, rank, 9, None))
    finally:
        sys.settrace(before)
    for thread in threads:
        thread.join()

    expected = [[], [0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert expected == [ranks for ranks, _ in groupby(found)]


def ranks_in(text):
    return [attempt["group_rank"] for attempt in json.loads(text)["attempts"]]


def test_what_an_attempt_costs_does_not_grow_with_their_number(monkeypatch):
    """Past attempts are not dumped again."""
    report = ReportFile([], {})
    dumped = []
    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", lambda value, **how: _noted(dumped, dumps(value, **how)))

    sizes = []
    for _ in range(30):
        dumped.clear()
        report.joined(RendezvousInfo(None, 0, 1, None))
        report.round_ended(FAILED, Step.RESTART)
        sizes.append(sum(map(len, dumped)))

    assert max(sizes) < 2 * sizes[1]


def _noted(dumped, text):
    dumped.append(text)
    return text
