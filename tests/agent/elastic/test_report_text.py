"""The report is written as JSON attempt by attempt: its text is that of one dump of all of it."""

import json

from elrun.agent.elastic.policy import Step
from elrun.agent.elastic.report_file import BEGINNING, MOST_ATTEMPTS, ReportFile
from elrun.agent.workers.worker import RunResult, WorkerState
from elrun.rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind

FAILED = Verdict(VerdictKind.WORKER_FAILED, 0, 'it said "attempts": [\n  0\n ]')


class Versions:
    """Takes each version of a file, and what the report was then, dumped as a whole."""

    def __init__(self):
        self.report, self.texts = None, []

    def write(self, text):
        whole = json.dumps(self.report._report, indent=1).encode() + b"\n"
        self.texts.append((text, whole))


def test_each_version_is_the_dump_of_the_whole_report():
    """From the first attempt on, and when old attempts are left out."""
    versions = Versions()
    report = versions.report = ReportFile(
        [versions], {"name": 'a "job"', "config": {"attempts": []}}
    )
    versions.write(report._text())

    for _ in range(MOST_ATTEMPTS + 3):
        report.joined(RendezvousInfo(None, 0, 1, None))
        report.workers_started()
        report.round_ended(FAILED, Step.RESTART)
        report.workers_ended(RunResult(WorkerState.FAILED))

    assert 1 + 4 * (MOST_ATTEMPTS + 3) == len(versions.texts)
    assert [] == [text for text, whole in versions.texts if text != whole][:1]
    assert all(text.startswith(BEGINNING) for text, _ in versions.texts)
    assert MOST_ATTEMPTS == len(json.loads(versions.texts[-1][0])["attempts"])


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
