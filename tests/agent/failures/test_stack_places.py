"""Where Python processes were, from what faulthandler writes."""

import pytest
from elrun.agent.failures.stack_places import (
    Oddness,
    Whereabouts,
    doubt_about,
    folded,
    folded_clauses,
    odd_ones,
    own_place_in,
    place_in,
    sentence_of,
    waits_for_child,
    whole_text,
)

IN_COLLECTIVE = """\
Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/home/me/watcher.py", line 5 in run

Current thread 0x00007f0000000000 (most recent call first):
  File "/v/lib/python3.11/site-packages/torch/distributed/c10d.py", line 2810 in all_reduce
  File "/venv/lib/python3.11/site-packages/torch/distributed/c10d_logger.py", line 81 in wrapper
  File "/home/me/train.py", line 88 in step
  File "/home/me/train.py", line 120 in main
  File "/home/me/train.py", line 130 in <module>
"""
IN_OWN_CODE = """\
Current thread 0x00007f0000000000 (most recent call first):
  File "/home/me/data.py", line 31 in load_batch
  File "/home/me/train.py", line 80 in <module>
"""
IN_LIBRARY_ONLY = """\
Current thread 0x00007f0000000000 (most recent call first):
  File "/usr/lib/python3.11/json/decoder.py", line 353 in raw_decode
  File "<frozen runpy>", line 88 in _run_code
"""
_FIND = '  File "<frozen importlib._bootstrap>", line 1178 in _find_and_load\n'
_LOAD = '  File "<frozen importlib._bootstrap_external>", line 1073 in get_data\n'
_USER = '  File "/home/me/train.py", line 1 in <module>\n'
_HEAD = "Current thread 0x00007f0000000000 (most recent call first):\n"
IN_IMPORT = f"""\
{_HEAD}{_LOAD}{_FIND}\
  File "/v/lib/python3.11/site-packages/torch/_C/_dynamo/x.py", line 7 in <module>
{_FIND}  File "/v/lib/python3.11/site-packages/torch/__init__.py", line 2000 in <module>
{_FIND}{_USER}"""
IN_STANDARD_IMPORT = f"""\
{_HEAD}{_LOAD}{_FIND}\
  File "/usr/lib/python3.11/json/decoder.py", line 7 in <module>
{_FIND}{_USER}"""
IN_FINDING = f"{_HEAD}{_LOAD}{_FIND}{_USER}"
IN_LATE_IMPORT = f"""\
{_HEAD}{_LOAD}{_FIND}\
  File "/v/lib/python3.11/site-packages/torch/optim/adam.py", line 7 in <module>
{_FIND}  File "/v/lib/python3.11/site-packages/torch/optim/api.py", line 20 in make
{_USER}"""
IN_OWN_IMPORT = f"""\
{_HEAD}  File "/home/me/models.py", line 3 in <module>
{_FIND}{_USER}"""
IN_IMPORT_ONLY = f"{_HEAD}{_LOAD}{_FIND}"


@pytest.mark.parametrize(
    ("stacks", "place"),
    [
        (IN_IMPORT, "the import of torch (train.py:1)"),
        (IN_STANDARD_IMPORT, "the import of json.decoder (train.py:1)"),
        (IN_FINDING, "the import (train.py:1)"),
        (IN_LATE_IMPORT, "make (train.py:1)"),
        (IN_OWN_IMPORT, "<module> (models.py:3)"),
        (IN_IMPORT_ONLY, ""),
        (IN_COLLECTIVE, "all_reduce (train.py:88)"),
        (IN_OWN_CODE, "load_batch (data.py:31)"),
        (IN_LIBRARY_ONLY, "raw_decode (decoder.py:353)"),
        ("", ""),
        ("Current thread 0x0 (most recent call first):\n  <no Python frame>\n", ""),
        ("no stack at all\n", ""),
        (IN_OWN_CODE[: len(IN_OWN_CODE) // 2 + 40], "load_batch (data.py:31)"),
        ('Thread 0x1 (most recent call first):\n  File "a b.py", line 3 in f', "f (a b.py:3)"),
    ],
)
def test_a_place_is_the_innermost_line_of_the_user_s_code(stacks, place):
    """With the function of a library that it has called; the main thread's stack is the last."""
    assert place == place_in(stacks)


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({}, ""),
        ({3: "f (a.py:1)"}, "rank 3 in f (a.py:1)"),
        (
            {**dict.fromkeys(range(7), "all_reduce (t.py:8)"), 7: "load (d.py:3)"},
            "ranks 0-6 in all_reduce (t.py:8); rank 7 in load (d.py:3)",
        ),
        (
            {
                0: "load (d.py:3)",
                1: "f (a.py:1)",
                2: "load (d.py:3)",
                4: "f (a.py:1)",
                5: "f (a.py:1)",
            },
            "ranks 1, 4-5 in f (a.py:1); ranks 0, 2 in load (d.py:3)",
        ),
    ],
)
def test_equal_places_are_folded(places, text):
    """Where most ranks are comes first: the others are the odd ones."""
    assert text == folded(places)


def test_the_text_is_bounded():
    """A thousand ranks may be at a thousand places."""
    assert 1_001 == len(folded({rank: f"f{rank} (a.py:{rank})" for rank in range(1_000)}))


HERE = Whereabouts(7, "f (a.py:1)", "", "the stack of f")
STOPPED = Whereabouts(8, "", "is stopped (SIGSTOP)", "", is_held=True)


def test_ranks_without_an_answer_come_last():
    """Equal ones together, as places are."""
    found = {0: STOPPED, 1: HERE, 2: HERE, 3: STOPPED, 4: Whereabouts(9, "", "has ended", "")}

    assert (
        "ranks 1-2 in f (a.py:1); ranks 0, 3 are stopped (SIGSTOP); rank 4 has ended"
    ) == sentence_of(found)
    assert "rank 0 is stopped (SIGSTOP)" == sentence_of({0: STOPPED})


@pytest.mark.parametrize(
    ("clause", "plural"),
    [
        ("is stopped (SIGSTOP)", "are stopped (SIGSTOP)"),
        ("has ended", "have ended"),
        ("runs bash without elrun's hook, waiting", "run bash without elrun's hook, waiting"),
        ("blocks signals, waiting", "block signals, waiting"),
        ("gives no stack, running", "give no stack, running"),
        ("in is (a.py:1)", "in is (a.py:1)"),
    ],
)
def test_the_verb_agrees_with_the_number_of_ranks(clause, plural):
    """It is the first word of what is known of a rank."""
    assert f"ranks 0-1 {plural}; rank 3 {clause} now" == folded_clauses(
        {0: clause, 1: clause, 3: f"{clause} now"}
    )


def test_a_file_has_all_stacks_by_rank():
    """With the place, or what is known instead."""
    assert (
        "rank 0 (pid 8): is stopped (SIGSTOP)\n\n\nrank 1 (pid 7): f (a.py:1)\nthe stack of f\n"
    ) == whole_text({1: HERE, 0: STOPPED})


@pytest.mark.parametrize(
    ("places", "rank"),
    [
        ({4: "f (a.py:1)"}, 4),
        ({0: "f (a.py:1)", 1: "f (a.py:1)"}, 0),
        ({0: "f (a.py:1)", 1: "f (a.py:1)", 2: "g (a.py:2)"}, 2),
        ({0: "all_reduce (a.py:1)", 1: "load (a.py:2)"}, 1),
        ({0: "load (a.py:2)", 1: "barrier (a.py:1)"}, 0),
        ({**dict.fromkeys(range(3), "load (a.py:2)"), 3: "all_gather (a.py:1)"}, 0),
        ({0: "all_reduce (a.py:1)", 1: "broadcast (a.py:2)", 2: "barrier (b.py:1)"}, 0),
        ({0: "all_reduce (a.py:1)", 1: "all_reduce (a.py:1)", 2: "barrier (b.py:1)"}, 2),
        ({0: "reducer (a.py:1)", 1: "wait (a.py:1)"}, 0),
        ({0: "a (a.py:1)", 1: "b (a.py:1)", 2: "b (a.py:1)", 3: "recv (a.py:9)"}, 0),
    ],
)
def test_the_rank_that_others_wait_for_is_the_odd_one(places, rank):
    """It is in no collective, unless all are; then it is where the fewest are."""
    found = {each: Whereabouts(1, place, "", "") for each, place in places.items()}

    assert rank == odd_ones({each: where.standing for each, where in found.items()})[0]


USER = '  File "/home/me/train.py", line 4 in load_batch\n'
OF_PYTHON = '  File "/usr/lib/python3.11/threading.py", line 629 in wait\n'
OF_TORCH = '  File "/v/site-packages/torch/distributed/distributed_c10d.py", line 9 in all_reduce\n'
OF_OTHERS = '  File "/v/site-packages/lightning/trainer.py", line 9 in fit\n'


@pytest.mark.parametrize(
    ("frames", "oddness"),
    [
        (OF_TORCH + USER, Oddness.WAITS_FOR_PEERS),
        (OF_TORCH + OF_OTHERS + USER, Oddness.WAITS_FOR_PEERS),
        (OF_PYTHON + USER, Oddness.ELSEWHERE),
        ('  File "/home/me/train.py", line 4 in wait_for_batch\n', Oddness.ELSEWHERE),
        (OF_PYTHON + USER + OF_TORCH + USER, Oddness.ELSEWHERE),
    ],
)
def test_only_torch_s_own_functions_wait_for_peers(frames, oddness):
    """An ``Event.wait`` of Python's, or a function of the user's with such a name, does not."""
    stack = f"Current thread 0x00007f0000000000 (most recent call first):\n{frames}"
    stack += f"\nchild process 9:\nThread 0x0000 (most recent call first):\n{OF_TORCH}"

    assert oddness == Whereabouts(1, place_in(stack), "", stack).standing.oddness


SILENT = Whereabouts(9, "", "gives no stack, waiting", "")
WAITS = Whereabouts(5, "all_reduce (a.py:1)", "", "")


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        ([HERE, STOPPED], 1),
        ([STOPPED, STOPPED, HERE], 0),
        ([HERE, HERE, SILENT, SILENT], 2),
        ([WAITS, SILENT, HERE], 1),
        ([SILENT, HERE, WAITS, HERE._replace(is_held=True)], 3),
        ([SILENT, SILENT, SILENT._replace(silence="blocks signals, waiting")], 2),
    ],
)
def test_a_rank_that_is_held_goes_before_a_silent_one(found, rank):
    """And a silent one before all that show where they are."""
    assert rank == odd_ones({each: where.standing for each, where in enumerate(found)})[0]


ALL = "no rank stands out, and rank 0 is named for all of them"


@pytest.mark.parametrize(
    ("places", "odd", "doubt"),
    [
        (["f (a.py:1)"], [0], ""),
        (["barrier (a.py:1)", "f (a.py:1)"], [1], ""),
        (["f (a.py:1)"] * 2, [0, 1], ALL),
        (["barrier (a.py:1)"] * 2 + ["all_reduce (a.py:2)"] * 2, [0, 1, 2, 3], ALL),
        (["barrier (a.py:1)"] * 3 + ["all_reduce (a.py:2)"], [3], ""),
        (
            ["barrier (a.py:1)", "f (a.py:1)", "g (a.py:2)", "barrier (a.py:1)"],
            [1, 2],
            "ranks 1-2 stand out alike, and rank 1 is named for all of them",
        ),
        (["f (a.py:1)"] * 2 + ["g (a.py:2)", "barrier (a.py:1)"], [2], ""),
    ],
)
def test_ranks_that_stand_out_alike_are_told(places, odd, doubt):
    """Only one of them is named; which one is chance."""
    found = {rank: Whereabouts(1, place, "", "").standing for rank, place in enumerate(places)}

    assert (odd, doubt) == (odd_ones(found), doubt_about(odd, len(places)))


IN_CHILD = """\
Current thread 0x00007f0000000000 (most recent call first):
  File "/home/me/data.py", line 10 in __getitem__
  File "/v/lib/python3.11/site-packages/torch/utils/data/_utils/worker.py", line 358 in _worker_loop
  File "/usr/lib/python3.11/multiprocessing/process.py", line 314 in _bootstrap
  File "/home/me/train.py", line 20 in <module>
"""


def test_a_child_s_own_place_is_above_where_it_was_forked():
    """Below that are its parent's frames, which tell nothing of the child."""
    idle = "\n".join(IN_CHILD.splitlines()[:1] + IN_CHILD.splitlines()[2:])

    assert ["__getitem__ (data.py:10)", "", ""] == [
        own_place_in(stacks) for stacks in (IN_CHILD, idle, "")
    ]


@pytest.mark.parametrize(
    ("place", "waits"),
    [("__next__ (t.py:1)", True), ("join (t.py:1)", True), ("load (t.py:1)", False), ("", False)],
)
def test_a_wait_for_a_child_is_known_by_its_function(place, waits):
    """That of ``multiprocessing``, ``subprocess`` or a DataLoader."""
    assert waits is waits_for_child(place)
