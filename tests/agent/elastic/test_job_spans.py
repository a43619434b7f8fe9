"""Which span elrun's own are parts of, and what a value may be."""

import pytest
from elrun.agent.elastic.job_spans import MOST_CHARS, JobSpans, parent_in
from elrun.agent.elastic.observer import Moment
from elrun.agent.elastic.policy import Step
from elrun.agent.failures.report import RootCause
from elrun.agent.workers.worker import WorkerGroup, WorkerSpec
from elrun.rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind

TRACE, SPAN = "ab" * 16, "cd" * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", (int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-00", (int(TRACE, 16), int(SPAN, 16), False)),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_a_span_of_the_caller_s_is_found(text, expected):
    """As W3C's Trace Context writes it; what is no such text counts as none."""
    assert expected == parent_in({"TRACEPARENT": text})


class Sent:
    """Stands for the sender."""

    def __init__(self):
        self.spans, self.occurrences, self.is_closed = [], [], False

    def send(self, spans, occurrences):
        self.spans += spans
        self.occurrences += occurrences

    def close(self):
        self.is_closed = True


class Rounds:
    """Stands for a rendezvous that nobody asks."""


@pytest.fixture(name="spans")
def _spans():
    spec = WorkerSpec(role="r", local_world_size=1, rdzv_handler=Rounds(), entrypoint="python")
    sent = Sent()
    return JobSpans(sent, WorkerGroup(spec), 1, 0, "train.py", "run"), sent


def test_texts_are_bounded_and_can_be_encoded(spans):
    """Workers print any bytes, of any length."""
    job, sent = spans
    job.joining()
    verdict = Verdict(VerdictKind.WORKER_FAILED, 0, f"\udcff{'x' * 2 * MOST_CHARS}")

    job.round_ended(verdict, Step.FAIL)

    decision = sent.occurrences[-1]
    reason = decision.attributes["elrun.reason"]
    assert (MOST_CHARS, "?x", "…") == (len(reason), reason[:2], reason[-1])
    assert decision.text.encode()
    assert (True, "elrun.decision") == (decision.is_problem, decision.name)


def test_a_job_that_ends_while_nodes_meet_has_that_as_its_last_span(spans):
    """With the reason; then all is sent."""
    job, sent = spans
    job.joining()

    job.finish("rendezvous failed", 75, "nobody came")

    meeting, whole = sent.spans
    assert [("rendezvous", "nobody came"), ("job", "nobody came")] == [
        (each.name, each.problem) for each in (meeting, whole)
    ]
    assert (meeting.parent_id, 0) == (whole.span_id, whole.parent_id)
    assert sent.is_closed


@pytest.mark.parametrize("set_by_s", [0, 3600, -3600])
def test_a_decision_has_the_time_at_which_it_was_taken(spans, set_by_s):
    """As has the exception that led to it; a clock that was set since the job began counts not."""
    job, sent = spans
    job._began_at = Moment(10.0, 0.5)
    root = RootCause(0, 0, "node0", 7, 1, 0, "boom")
    verdict = Verdict(VerdictKind.WORKER_FAILED, 0, "boom", root.to_json())
    job.joined(RendezvousInfo(None, 0, 1, None))

    job.round_ended(verdict, Step.FAIL, Moment(12.5 + set_by_s, 3.0))
    job.finish("failed", 1, "boom")

    attempt = sent.spans[0]
    assert [12_500_000_000] * 2 == [each.at_ns for each in attempt.occurrences]
    (decision,) = (each for each in sent.occurrences if each.name == "elrun.decision")
    assert 12_500_000_000 == decision.at_ns


def test_a_look_at_workers_is_no_event(spans):
    """The agent looks at each turn of its loop."""
    job, sent = spans
    for _ in range(3):
        job.round_ended(None, Step.WATCH)
    for _ in range(3):
        job.round_ended(None, Step.WAIT_FOR_OTHERS)

    assert ["elrun.waiting"] == [each.name for each in sent.occurrences]
