"""Where a job was started, beside where a command was."""

import os
import subprocess
import sys

import pytest
from elrun.launcher.verbs.origin import Origin, origin_of


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        (Origin("/a", 1), Origin("/a", 2), True),
        (Origin("/a", 1), Origin("/b", 1), True),
        (Origin("/a", 1), Origin("/b", 2), False),
        (Origin("/a", 0), Origin("/b", 0), False),
        (Origin(), Origin(), False),
    ],
)
def test_a_folder_or_a_terminal_in_common_is_one_origin(one, other, is_shared):
    """No terminal is none in common, and what is not known isn't, either."""
    assert is_shared == one.is_shared_with(other)


def test_the_origin_of_a_process_is_its_folder_and_terminal(tmp_path):
    """A program's name may have spaces and brackets."""
    code = "import sys; open('/proc/self/comm', 'w').write(') x ('); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=-1, stdout=-1, start_new_session=True
    )
    process.stdout.readline()

    assert Origin(str(tmp_path.resolve()), 0) == origin_of(process.pid)
    process.communicate(b"\n")


def test_a_process_that_has_gone_has_no_origin():
    """Nor one that another user owns."""
    process = subprocess.Popen(["true"])
    process.wait()

    assert Origin() == origin_of(process.pid)
    assert os.getcwd() == origin_of(os.getpid()).folder
