"""Where a program was, from the frames that Python prints."""

import pytest
from elrun.agent.failures.traceback_place import bare_place, innermost_place

IN_A_LIBRARY = """Traceback (most recent call last):
  File "/home/me/train.py", line 9, in <module>
    main()
  File "/home/me/train.py", line 5, in main
    batches.get(timeout=2)
  File "/usr/lib/python3.11/queue.py", line 179, in get
    raise Empty
_queue.Empty
"""
STACK = """Stack (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/home/me/train.py", line 4, in check
    sys.exit(3)
"""
CHAIN = (
    IN_A_LIBRARY
    + """
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/usr/lib/python3.11/queue.py", line 3, in close
AssertionError
"""
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            IN_A_LIBRARY,
            (
                "get (/usr/lib/python3.11/queue.py, line 179), "
                "called in main (/home/me/train.py, line 5)"
            ),
        ),
        (STACK, "check (/home/me/train.py, line 4)"),
        (CHAIN, "close (/usr/lib/python3.11/queue.py, line 3)"),
        ("FATAL: no such shard", ""),
        ("", ""),
    ],
)
def test_a_place_is_the_innermost_frame_and_the_user_s_line_that_led_there(text, place):
    """Of a chain, the frames of the exception that ended the worker count."""
    assert place == innermost_place(text)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("AssertionError", "check (/home/me/train.py, line 4)"),
        ("queue.Empty", "check (/home/me/train.py, line 4)"),
        ("ValueError: no such shard", ""),
        ("FATAL no such shard", ""),
    ],
)
def test_only_an_exception_without_a_text_needs_its_place_beside_it(words, place):
    """The traceback of each stands at the end of the report."""
    assert place == bare_place(words, STACK)
