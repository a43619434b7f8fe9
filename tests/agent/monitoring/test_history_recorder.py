"""The thread that writes a run's history: in order, in time, and never in the job's way."""

import os
import threading
import time

import pytest
from elrun.agent.monitoring.history_recorder import HistoryRecorder, pause_after
from elrun.agent.monitoring.samples import Sampler
from elrun.agent.output.history_file import HistoryFile, read_history
from elrun.agent.output.run_folders import RunFolder

LONG_S = 3_600.0
"""An interval in which no sample is due."""


class StubSampler:
    """Says how often it was asked, and for whom."""

    def __init__(self):
        self.asked = []
        self.was_asked = threading.Event()
        self.is_closed = False

    def news(self):
        yield from () if self.asked else [("gpus", {"gpus": ["H100"]})]

    def sample(self, pids):
        self.asked.append(dict(pids))
        self.was_asked.set()
        return {"ranks": dict(pids)}

    def close(self):
        self.is_closed = True


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = RunFolder(lambda: str(tmp_path / "runs"), "job")
    yield folder
    folder.release()


def lines_in(folder):
    return list(read_history(os.path.join(folder.path(), "history.jsonl")))


def test_lines_are_written_in_their_order(folder):
    """After one that says when the file was begun."""
    recorder = HistoryRecorder(HistoryFile(folder), StubSampler(), time.time, LONG_S)
    for number in range(100):
        recorder.put("event", {"at": number})
    recorder.close(10)

    first, *others = lines_in(folder)
    assert ("begin", 1) == (first["kind"], first["version"])
    assert [*range(100)] == [each["at"] for each in others]


def test_nothing_is_made_before_the_first_line(tmp_path):
    """Most jobs are short, and keep nothing."""
    recorder = HistoryRecorder(
        HistoryFile(RunFolder(lambda: str(tmp_path / "runs"), "x")), StubSampler(), time.time
    )
    recorder.close(10)

    assert [] == [*tmp_path.iterdir()]


def test_samples_that_are_due_are_taken_at_once(folder):
    """Which GPUs there are stands before the first one."""
    sampler = StubSampler()
    recorder = HistoryRecorder(HistoryFile(folder), sampler, time.time, LONG_S)
    recorder.put("event", {"at": 1})
    recorder.watch({0: 11, 1: 12}, is_due=True)
    sampler.was_asked.wait()
    recorder.close(10)

    assert ["begin", "event", "gpus", "sample"] == [each["kind"] for each in lines_in(folder)]
    assert {"0": 11, "1": 12} == lines_in(folder)[-1]["ranks"]
    assert sampler.is_closed


def test_samples_follow_each_other(folder):
    """As long as there are workers; others are sampled from their own first interval on."""
    sampler = StubSampler()
    recorder = HistoryRecorder(HistoryFile(folder), sampler, time.time, 0.001)
    recorder.put("event", {"at": 1})
    for pids in ({0: 11}, {0: 12}):
        recorder.watch(pids)
        while sampler.asked.count(pids) < 3:
            sampler.was_asked.clear()
            sampler.was_asked.wait()
    recorder.close(10)

    assert [{0: 11}] * 3 == sampler.asked[:3]
    assert {0: 12} == sampler.asked[-1]


@pytest.mark.parametrize("pids", [{}, {0: 1}])
def test_no_sample_is_taken_of_nobody_or_too_early(folder, pids):
    """Between two attempts there is nothing to see."""
    sampler = StubSampler()
    recorder = HistoryRecorder(HistoryFile(folder), sampler, time.time, LONG_S)
    recorder.put("event", {"at": 1})
    recorder.watch(pids)
    recorder.put("event", {"at": 2})
    recorder.close(10)

    assert [] == sampler.asked
    assert 3 == len(lines_in(folder))


def test_a_full_disk_ends_the_history_with_one_line(small_disk, caplog):
    """Whatever is put there afterwards."""
    folder = RunFolder(lambda: str(small_disk), "job")
    recorder = HistoryRecorder(HistoryFile(folder), StubSampler(), time.time, LONG_S)
    for _ in range(200):
        recorder.put("event", {"at": 1, "text": "x" * 1_000})
    recorder.close(10)
    recorder.put("event", {"at": 2})
    recorder.close(10)
    folder.release()

    [message] = caplog.messages
    assert message.startswith("the history of this run ends here: it can't be written to /")
    assert message.endswith(".run/history.jsonl: No space left on device")


def test_a_folder_that_can_not_be_made_ends_the_history(tmp_path, caplog):
    """The report, which is kept beside it, says so, too."""
    (tmp_path / "file").write_text("")
    recorder = HistoryRecorder(
        HistoryFile(RunFolder(lambda: str(tmp_path / "file"), "job")),
        StubSampler(),
        time.time,
        LONG_S,
    )
    recorder.put("event", {"at": 1})
    recorder.close(10)

    place = tmp_path / "file"
    assert [
        f"the history of this run ends here: it can't be written to {place}: Not a directory"
    ] == caplog.messages


def test_a_named_folder_that_can_not_be_made_ends_the_history_without_a_word(tmp_path, caplog):
    """One line has said so of all that would be kept there."""
    (tmp_path / "file").write_text("")
    folder = RunFolder(lambda: str(tmp_path / "file"), "job", is_named=True)
    recorder = HistoryRecorder(HistoryFile(folder), StubSampler(), time.time, LONG_S)
    recorder.put("event", {"at": 1})
    recorder.close(10)

    expected = (
        "this job can't be looked at, and its report and history are not kept: nothing can be kept "
        f"in {tmp_path / 'file'} (ELRUN_RUN_DIR): Not a directory"
    )
    assert [expected] == caplog.messages


def test_without_a_thread_there_is_no_history(folder, no_threads):
    """The job needs its threads more."""
    recorder = HistoryRecorder(HistoryFile(folder), StubSampler(), time.time)
    recorder.put("event", {"at": 1})
    recorder.close(10)

    assert [] == os.listdir(folder.path())


def test_a_sampler_that_hangs_holds_nobody_up(folder):
    """As a GPU's driver in trouble does."""
    answered = threading.Event()

    class Hanging(StubSampler):
        def sample(self, pids):
            self.was_asked.set()
            answered.wait()
            return {}

    sampler = Hanging()
    recorder = HistoryRecorder(HistoryFile(folder), sampler, time.time, LONG_S)
    recorder.put("event", {"at": 1})
    recorder.watch({0: 1}, is_due=True)
    sampler.was_asked.wait()
    for number in range(5_000):  # also more than it remembers
        recorder.put("event", {"at": number})
    recorder.close(0.01)
    is_there = [each.name for each in threading.enumerate() if each.name == "elrun-history"]
    answered.set()
    recorder.close(10)

    assert ["elrun-history"] == is_there


@pytest.mark.parametrize(
    ("cost_s", "pause_s"), [(0.0, 5.0), (0.0009, 5.0), (0.002, 10.0), (0.01, 50.0), (1.0, 60.0)]
)
def test_the_more_a_sample_costs_the_fewer_there_are(cost_s, pause_s):
    """A millisecond in five seconds is what may be spent."""
    assert pause_s == pytest.approx(pause_after(cost_s, 5.0))


def test_a_sample_has_what_workers_use():
    """CPU time, memory, and what they have printed; the agent's own, and its last beat's age."""
    sampler = Sampler({}, lambda: {3: 77}, lambda: 0.12345)

    found = sampler.sample({3: os.getpid(), 4: os.getpid()})

    assert {3, 4} == found["ranks"].keys()
    assert [77, None] == [found["ranks"][rank][2] for rank in (3, 4)]
    assert found["agent"][1] == pytest.approx(found["ranks"][3][1], rel=0.2)
    assert 0.123 == found["beat_age_s"]


def test_what_is_not_known_is_left_out():
    """A worker that has ended; the beat of a node that is alone."""
    found = Sampler({}, dict, lambda: None).sample({0: 1 << 30})

    assert {} == found["ranks"]
    assert "beat_age_s" not in found
