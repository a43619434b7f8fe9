"""What a follower of logs is shown: of files that grow or are replaced, of ends that are kept."""

import base64
import json
import os

import pytest
from elrun.launcher.report.refusal import VerbRefusal
from elrun.launcher.verbs.log_lines import Lines
from elrun.launcher.verbs.log_sources import KeptOutput, LogFile, Sources


def read(source, *, is_last=False):
    return list(source.read(is_last=is_last))


def test_a_line_without_an_end_waits_for_it():
    """And is one at the end."""
    lines = Lines()

    assert [["a\n"], ["bc\n"], [], ["d\n"]] == [
        list(lines.feed(b"a\nb")),
        list(lines.feed(b"c\n")),
        list(lines.feed(b"d")),
        list(lines.finish()),
    ]


def test_a_line_that_never_ends_is_shown_in_parts():
    """It must not fill the memory."""
    lines = Lines()

    (part,) = lines.feed(b"x" * (2 << 20))

    assert (2 << 20, ["\n"]) == (len(part), list(lines.finish()))


def test_any_bytes_come_back_as_they_were():
    """The words are the workers' own."""
    (line,) = Lines().feed(b"\xff\xfe ok\n")

    assert b"\xff\xfe ok\n" == line.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("how", ["emptied", "replaced"])
def test_a_log_file_is_read_on_whatever_becomes_of_it(tmp_path, how):
    """What is added, and all of it once it was emptied or replaced."""
    path = tmp_path / "stderr.log"
    log = LogFile(str(path), 3, 1)
    assert [] == read(log)
    path.write_text("one\ntw")
    first = read(log)
    with path.open("a") as file:
        file.write("o\n")
    second = read(log)
    if how == "emptied":
        path.write_text("3\n")
    else:
        (tmp_path / "new").write_text("three\nfour\n")
        os.replace(tmp_path / "new", path)

    assert "attempt 1, rank 3, stderr" == log.title
    assert [["one\n"], ["two\n"]] == [first, second]
    assert (["3\n"] if how == "emptied" else ["three\n", "four\n"]) == read(log, is_last=True)


def test_only_what_is_new_of_a_kept_end_is_shown():
    """The agent tells all that it has each time, and how much was printed."""
    kept = KeptOutput(0)
    shown = []
    for printed, end in ((4, b"a\nb\n"), (4, b"a\nb\n"), (6, b"a\nb\nc\n")):
        kept.offer(printed, end)
        shown.append(read(kept))

    assert [["a\n", "b\n"], [], ["c\n"]] == shown


def test_what_was_printed_too_fast_to_be_kept_is_counted():
    """A gap in a log must not look like none."""
    kept = KeptOutput(0)
    kept.offer(2, b"a\n")
    read(kept)

    kept.offer(100, b"y\nz\n")

    assert ["... 94 bytes are not kept ...\n", "y\n", "z\n"] == read(kept)


@pytest.mark.parametrize("printed", [4, 100])
def test_a_new_attempt_of_which_as_much_is_there_as_of_the_last_one_is_shown_whole(printed):
    """A job that fails at its start prints the same each time: its process tells."""
    kept = KeptOutput(0)
    kept.offer(4, b"one\n", 50)
    read(kept)

    kept.offer(printed, b"two\n", 51)

    gap = [] if printed == 4 else ["... 96 bytes are not kept ...\n"]
    assert [*gap, "two\n"] == read(kept)


def test_a_line_that_an_attempt_has_left_without_an_end_gets_one():
    """The first line of the next attempt does not go on with it."""
    kept = KeptOutput(0)
    kept.offer(10, b"loading ..", 50)
    shown = [*read(kept), *read(kept)]

    kept.offer(4, b"new\n", 51)

    assert ["loading ..", "\n", "new\n"] == shown + read(kept)


def test_a_new_attempt_begins_anew():
    """Its count is lower."""
    kept = KeptOutput(0)
    kept.offer(10, b"long ago\n\n")
    read(kept)

    kept.offer(4, b"new\n")

    assert ["new\n"] == read(kept)
    assert ["rank 0, its last words", "attempt 2, rank 1, its last words"] == [
        kept.title,
        KeptOutput(1, 2).title,
    ]


class Ended:
    """The folder of a run whose agent answers as long as it has answers."""

    def __init__(self, folder, *answers):
        self.folder = str(folder)
        self._answers = list(answers)

    def reread(self):
        return {}

    def ask(self, _path):
        if not self._answers:
            raise VerbRefusal("it has ended")
        return {"ranks": kept_of(*self._answers.pop(0))}

    def wait_for_end(self, _timeout_s):
        return True

    def write(self, *attempts):
        """Write the ends of attempts, of which each has a number, a process and what it printed."""
        found = [{"attempt": at, "ranks": kept_of(pid, text)} for at, pid, text in attempts]
        with open(os.path.join(self.folder, "output.json"), "w") as file:
            json.dump({"version": 1, "attempts": found}, file)


def kept_of(pid, text):
    end = base64.b64encode(text.encode()).decode()
    return {"0": {"pid": pid, "printed": len(text), "end": end}}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ([(1, 51, "one\n"), (2, 52, "two\n")], ["two\n"]),
        ([(2, 52, "two\n"), (3, 53, "and three\n")], ["two\n", "and three\n"]),
        ([(0, 50, "nil\n"), (1, 51, "one\nmore\n")], ["more\n"]),
        ([(1, [], "one\n"), (2, 52, "two\n")], ["two\n"]),
        ([(0, 50, "nil\n")], []),
    ],
)
def test_attempts_that_end_before_anybody_looks_again_are_shown(tmp_path, written, shown):
    """The last one, of as many bytes, says why the job has failed; none is shown twice."""
    run = Ended(tmp_path, (50, "nil\n"), (51, "one\n"))
    sources = Sources([run], [run])
    seen = [line for _ in range(2) for each in sources.look() for line in read(each)]

    run.write(*written)

    assert ["nil\n", "one\n"] == seen
    assert shown == [line for each in sources.look() for line in read(each, is_last=True)]


def test_an_attempt_that_was_over_at_the_first_look_is_shown_once(tmp_path):
    """It stands in the file to the end."""
    run = Ended(tmp_path, (51, "one\n"))
    run.write((0, 50, "nil\n"))
    sources = Sources([run], [run])
    first = [line for each in sources.look() for line in read(each)]
    run.write((0, 50, "nil\n"), (1, 51, "one\n"))

    assert ["nil\n", "one\n"] == first
    assert [] == [line for each in sources.look() for line in read(each)]


@pytest.mark.parametrize(
    "odd",
    [
        {"printed": float("inf"), "end": ""},
        {"printed": float("nan"), "end": ""},
        {"printed": 10**30, "end": ""},
        {"printed": -1, "end": ""},
        {"printed": 1, "end": "é"},
        {"printed": 1, "end": 5},
        {"end": ""},
        [],
        None,
    ],
)
def test_ends_of_another_form_are_none(tmp_path, odd):
    """Another version of elrun may have written the file, or answer for the agent."""
    run = Ended(tmp_path)
    with open(os.path.join(run.folder, "output.json"), "w") as file:
        json.dump({"version": 1, "attempts": [{"attempt": 0, "ranks": {"0": odd}}]}, file)
    run.ask = lambda _path: {"ranks": {"0": odd}}
    run.run, run.label = run, "job (train.py, agent 7)"
    sources = Sources([run], [run])

    assert [] == sources.look()
    assert (
        "the answer of the agent of job (train.py, agent 7) is not understood: is it one of "
        "another version?" == sources.problem
    )
