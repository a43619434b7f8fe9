"""What is learnt from workers' reports of their imports, by the bytes that they write."""

import os

import pytest
from elrun.agent.preload.lessons import Learnt, Lessons


@pytest.fixture(name="lessons")
def _lessons():
    lessons = Lessons(2)
    yield lessons
    lessons.close()


def pipe_of(lessons):
    """Return the descriptor that workers are told."""
    _, _, number, *_ = lessons.settings({}, {}).split("\n")
    return int(number)


def write(lessons, *records):
    """Write what workers write."""
    for record in records:
        os.write(pipe_of(lessons), framed(record))


def framed(record):
    return b"%4d%s" % (len(record), record)


def test_a_module_is_learnt_once_all_have_reported_it(lessons):
    """Each worker by its process id; the time is the quickest worker's."""
    write(lessons, b"7\0torch\0/torch.py\x002.5", b"7\0torch\0/torch.py\x003.5")
    before = lessons.take([7, 8])
    write(lessons, b"8\0torch\0/torch.py\x001.5")

    assert ({}, {Learnt("torch", "/torch.py", ()): 1.5}) == (before, lessons.take([7, 8]))
    assert {} == lessons.take([7, 8])


@pytest.mark.parametrize(
    "other",
    [b"8\0torch\0/other.py\x001", b"8\0torch\0/torch.py\x001\0A=1", b"9\0torch\0/torch.py\x001"],
)
def test_what_another_worker_has_imported_otherwise_is_not_learnt(lessons, other):
    """Another file, in another environment, or by a process that is no worker."""
    write(lessons, b"7\0torch\0/torch.py\x001", other)

    assert {} == lessons.take([7, 8])


def test_reports_of_an_earlier_attempt_do_not_count(lessons):
    """A process id may come again."""
    write(lessons, b"7\0torch\0/torch.py\x001")
    lessons.forget_reporters()
    write(lessons, b"8\0torch\0/torch.py\x001")

    assert {} == lessons.take([7, 8])


def test_modules_that_ask_are_kept_apart(lessons):
    """One worker's report is enough."""
    write(lessons, b"7\0rank_zero\0!", b"7\0torch\0/torch.py\x001\0A=1\0B")
    write(lessons, b"8\0torch\0/torch.py\x001\0A=1\0B")

    assert {Learnt("torch", "/torch.py", ("A=1", "B")): 1.0} == lessons.take([7, 8])
    assert {"rank_zero"} == lessons.asking


@pytest.mark.parametrize("junk", [b"junk", b"  -9", b"   3abc", b"  11x\0a\0b\x001\0\0\0", b"    "])
def test_junk_ends_the_learning(lessons, junk):
    """A worker may write what it likes to the pipe."""
    pipe = pipe_of(lessons)
    os.write(pipe, junk + b"    " * 8)
    lessons.take([7, 8])
    for pid in (b"7", b"8"):
        os.write(pipe, framed(pid + b"\0torch\0/torch.py\x001"))

    assert ({}, []) == (lessons.take([7, 8]), lessons.filenos())


@pytest.mark.parametrize("seconds", [b"inf", b"nan", b"1e999"])
def test_a_time_without_an_end_is_junk(lessons, seconds):
    """No start may wait for so long until the module is imported."""
    write(lessons, b"7\0torch\0/torch.py\0" + seconds)

    assert ({}, []) == (lessons.take([7]), lessons.filenos())


def test_only_variables_that_differ_from_worker_to_worker_are_named(lessons):
    """Those of our own hook are none of them."""
    environment = {
        "HOME": "/",
        "RANK": "0",
        "LANG": "C",
        "PYTHONPATH": "/hook:",
        "ELRUN_WORKER": "",
    }

    settings = lessons.settings(environment, {"HOME": "/", "LANG": "de"})

    assert ["RANK", "LANG"] == settings.split("\n")[4:]


def test_a_worker_is_told_nothing_once_nothing_is_learnt_any_more(lessons):
    """That may turn out when its start has begun."""
    lessons.close()

    assert "" == lessons.settings({}, {})
