"""When a job counts as hung, on a clock that the test moves."""

from types import SimpleNamespace

import pytest
from elrun.agent.monitoring import hang_watch
from elrun.agent.monitoring.hang_votes import Answer
from elrun.agent.monitoring.hang_watch import HangWatch
from elrun.agent.monitoring.signs_of_life import Usage

NO_PROCESS = 1 << 30


class Workers:
    """Two workers that use what the test says; no process has their ids."""

    def __init__(self):
        self.usage = Usage(0.0, 0)
        self.marked = {}

    def running_pids(self):
        return {0: NO_PROCESS, 1: NO_PROCESS + 1}

    pids = running_pids

    def mark_failed(self, local_rank, reason):
        self.marked[local_rank] = reason


class Bench:
    """A watch of 80 s, which looks every 10 s."""

    def __init__(self):
        self.now = 1000.0
        self.workers = Workers()
        self.kept = []
        self.watch = HangWatch(
            80.0,
            None,
            SimpleNamespace(workers=[SimpleNamespace(local_rank=n, global_rank=n) for n in (0, 1)]),
            wake=lambda: None,
            keep=lambda found, _: self.kept.append(found) or "; kept",
            read_usage=lambda _: self.workers.usage,
            clock=lambda: self.now,
        )
        self.watch.begin_attempt(self.workers)

    def turn(self, seconds=None):
        """Let time pass until the next look, and look."""
        self.now += self.watch.wakes().within_s if seconds is None else seconds
        return self.watch.tick()

    def hangs_after(self, most_s=1000.0):
        """Return after how many seconds it is found that nothing goes on; None: it is not."""
        began = self.now
        while self.now - began < most_s:
            if self.turn() is not None:
                return self.now - began
        return None


@pytest.fixture(name="bench")
def _bench():
    bench = Bench()
    yield bench
    bench.watch.end()


def test_a_job_hangs_when_nothing_has_gone_on_for_the_time_out(bench):
    """Once; the rank that is named counts as failed, with the cause."""
    assert 80.0 == bench.hangs_after()

    assert [{0, 1}] == [set(found) for found in bench.kept]
    assert (
        "no rank has gone on for 80 s (--hang-timeout): ranks 0-1 have ended"
        in bench.workers.marked[0]
    )
    assert (None, None) == (bench.watch.tick(), bench.watch.wakes().within_s)


def test_the_failure_has_the_cause_and_no_exit_code_of_the_worker_s(bench):
    """A rule about restarts finds it by its cause."""
    bench.now += 75.0
    while (trouble := bench.turn()) is None:
        pass

    (failure,) = trouble.failures.values()
    assert ("hang", 1, False) == (failure.cause, failure.exitcode, trouble.is_node_unfit)


def test_looks_come_eight_times_in_the_time_out(bench):
    """And not more often."""
    assert [10.0, 10.0] == [
        bench.watch.wakes().within_s,
        bench.turn() or bench.watch.wakes().within_s,
    ]


@pytest.mark.parametrize("usage", [Usage(1.0, 0), Usage(0.0, 1)])
def test_time_counts_from_the_last_sign(bench, usage):
    """CPU time, or anything written, at whichever look."""
    for _ in range(5):
        bench.turn()
    bench.workers.usage = usage

    assert 10.0 + 80.0 == bench.hangs_after()


def test_a_beat_makes_beats_the_only_sign(bench):
    """CPU time counts no more."""
    bench.watch._cell._cell[0] = 1
    bench.turn()
    began, trouble = bench.now, None
    while trouble is None:
        bench.workers.usage = Usage(bench.now, int(bench.now))
        trouble = bench.turn()

    assert 80.0 == bench.now - began


def test_beats_keep_a_job(bench):
    """However little it does besides."""
    for _ in range(30):
        bench.watch._cell._cell[0] = 1
        assert bench.turn(30.0) is None


def test_time_in_which_nobody_looked_does_not_count(bench):
    """A container that was paused, or a machine that slept, has had no chance to go on."""
    bench.turn()
    assert bench.turn(10_000.0) is None

    assert 60.0 <= bench.hangs_after() <= 70.0


def test_what_an_answer_costs_is_no_sign(bench):
    """What a worker has done before the question is one."""
    for _ in range(4):
        bench.turn()
    with bench.watch.asking():
        bench.workers.usage = Usage(5.0, 5000)
    assert 40.0 == bench.hangs_after()


def test_what_was_done_before_a_question_is_a_sign(bench):
    """It would be overlooked otherwise."""
    for _ in range(4):
        bench.turn()
    bench.workers.usage = Usage(5.0, 5000)
    with bench.watch.asking():
        pass

    assert 80.0 == bench.hangs_after()


def test_between_attempts_nobody_looks(bench):
    """A new attempt has the whole time."""
    for _ in range(7):
        bench.turn()
    bench.watch.end_attempt()
    assert (None, None) == (bench.watch.wakes().within_s, bench.turn(1000.0))
    bench.watch.begin_attempt(bench.workers)

    assert 80.0 == bench.hangs_after()


class Heard:
    """Votes whose next answer the test sets."""

    def __init__(self, *_):
        self.next = Answer()

    def ask(self, *_, **__):
        pass

    def take(self):
        answer, self.next = self.next, Answer()
        return answer


@pytest.fixture(name="votes")
def _votes(bench, monkeypatch):
    """The votes of a bench that is one of two nodes."""
    monkeypatch.setattr(hang_watch, "Votes", Heard)
    info = SimpleNamespace(store=None, rank=0, world_size=2, placement=())
    bench.watch.prepare(info, is_last=True)
    bench.watch.begin_attempt(bench.workers)
    return bench.watch._votes


def test_a_node_that_does_not_report_goes_on_to_look(bench, votes):
    """The node of the odd rank may have gone on before it heard of the decision."""
    assert bench.hangs_after(100) is None
    votes.next = Answer(odd=7, text="rank 7 is elsewhere")
    assert [None, 1] == [bench.watch.tick(), len(bench.kept)]

    votes.next = Answer(odd=1, text="rank 1 is elsewhere")
    assert "rank 1 is elsewhere" in bench.watch.tick().reason


def test_a_rank_that_has_gone_on_since_the_question_keeps_the_job(bench, votes):
    """The look that finds it may come in the same turn as the decision."""
    assert bench.hangs_after(100) is None
    bench.workers.usage = Usage(50.0, 0)
    votes.next = Answer(odd=1, text="rank 1 is elsewhere")

    assert bench.turn() is None
