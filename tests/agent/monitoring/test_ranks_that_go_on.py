"""Signs of life: what a worker uses, and lines that it prints."""

import os
import threading

import pytest
from elrun.agent.monitoring.signs_of_life import PatternWatch, Usage, has_gone_on, usage_of

BEFORE = Usage(10.0, 500)


@pytest.mark.parametrize(
    ("now", "within_s", "goes_on"),
    [
        (BEFORE, 1.0, False),
        (Usage(10.04, 500), 1.0, False),
        (Usage(10.06, 500), 1.0, True),
        (Usage(10.06, 500), 10.0, False),
        (Usage(10.11, 500), 10.0, True),
        (Usage(12.0, 500), 300.0, False),
        (Usage(10.0, 501), 300.0, True),
        (Usage(9.0, 499), 1.0, True),
    ],
)
def test_a_hundredth_of_a_cpu_and_any_output_are_signs(now, within_s, goes_on):
    """A child that has ended takes its count along, which is a sign as well."""
    assert goes_on is has_gone_on(BEFORE, now, within_s)


def test_what_a_process_writes_is_counted(tmp_path):
    """To whatever file."""
    before = usage_of(os.getpid())
    (tmp_path / "file").write_text("a" * 1000)

    assert usage_of(os.getpid()).written >= before.written + 1000


def test_a_process_that_is_gone_uses_nothing():
    """It may end between two looks."""
    assert Usage(0.0, 0) == usage_of(1 << 30)


class Printed:
    """Workers as far as their output is concerned."""

    def __init__(self, *files):
        self.stdouts = {0: "", 1: "/dev/null", **dict(enumerate(map(str, files), start=2))}
        self.stderrs = {}
        self.carried = {}
        self.threads = set()

    def carried_output(self):
        self.threads.add(threading.current_thread())
        return self.carried


def test_only_new_lines_that_match_count(tmp_path):
    """Each once, whether they are whole or not: some programs only begin them."""
    log = tmp_path / "log"
    log.write_text("step 1\n")
    watch = PatternWatch(r"^step \d+$")
    assert watch.begin(Printed(log))
    seen = [watch.take(), watch.take()]
    for text in ("noise\n", "ste", "p 2", "\nmore", " step 3\n", "step 4\r"):
        with log.open("a") as file:
            file.write(text)
        seen.append(watch.take())

    assert [True, False, False, False, True, False, False, True] == seen


def test_a_line_without_an_end_counts_as_it_grows(tmp_path):
    """What was found in it counts once, and what follows it without a match does not."""
    log = tmp_path / "log"
    log.touch()
    watch = PatternWatch(r"step \d+;")
    assert watch.begin(Printed(log))
    seen = []
    for text in ("step 1;", "....", " step", " 2;", "", "\n", "." * 5_000, "step 3;", "\n"):
        with log.open("a") as file:
            file.write(text)
        seen.append(watch.take())

    assert [True, False, False, True, False, False, False, True, False] == seen


def test_output_that_elrun_carries_is_looked_at(tmp_path):
    """However much of it has been forgotten."""
    workers = Printed()
    workers.carried = {0: (0, b"")}
    watch = PatternWatch("step")
    assert watch.begin(workers)
    seen = []
    for total, end in (
        (7, b"step 1\n"),
        (7, b"step 1\n"),
        (500, b"noise\n"),
        (507, b"e\nstep 2\n"),
    ):
        workers.carried = {0: (total, end)}
        seen.append(watch.take())

    assert [True, False, False, True] == seen


def test_the_thread_that_reads_files_takes_no_carried_output(tmp_path):
    """Whatever takes it may begin to carry, which the loop does as well: one thread does both."""
    workers = Printed(tmp_path / "log")
    watch = PatternWatch("step")
    watch.begin(workers)
    watch.take()

    assert {threading.current_thread()} == workers.threads


def test_output_that_can_not_be_seen_is_said_to_be_so(tmp_path):
    """Nothing ever counts then."""
    watch = PatternWatch("step")

    assert (False, False) == (watch.begin(Printed()), watch.take())
