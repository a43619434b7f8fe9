"""What `make matrix` says of Pythons, torches and jobs."""

import platform
import sys
from pathlib import Path

import matrix_jobs
import pytest
from matrix import Row, find_python, render
from matrix_jobs import Job, always

ROWS = [
    Row("3.11.7", "2.4.1", {"bash": "ok", "gloo": "ok"}, seconds=61.4),
    Row("3.12.1", "2.4.1", {"bash": "ok", "gloo": "it printed []"}, seconds=7),
    Row("3.14.8", "2.4.1", {}, missing="No matching distribution found for torch==2.4.1"),
]
TABLE = """\
| Python | torch | bash | gloo | s |
|---|---|---|---|---|
| 3.11.7 | 2.4.1 | ok | ok | 61 |
| 3.12.1 | 2.4.1 | ok | FAILED | 7 |
| 3.14.8 | 2.4.1 | - | - | 0 |

- Python 3.12.1, torch 2.4.1, gloo: it printed []
- Python 3.14.8, torch 2.4.1 can't be had: No matching distribution found for torch==2.4.1
"""


def test_the_table_says_what_ran_what_failed_and_what_can_not_be_had():
    """The reasons stand below it."""
    assert TABLE == "\n".join(render(ROWS, ["bash", "gloo"])) + "\n"


def test_only_what_was_run_and_went_wrong_is_a_failure():
    """What can't be had is none."""
    assert [False, True, False] == [row.is_failed for row in ROWS]


def test_a_python_is_found_by_its_path():
    """With the version that it says it has."""
    found = find_python(sys.executable)

    assert (sys.executable, platform.python_version()) == (found.path, found.version)


@pytest.mark.parametrize("wanted", ["0.1", "/no/such/python", "/dev/null"])
def test_a_python_that_is_not_there_has_no_path(wanted):
    """It is a row of its own, with the reason."""
    assert "" == find_python(wanted).path


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo b; echo a", "ok"),
        ("echo b", "it printed ['b']"),
        ("echo a; echo b; echo why >&2; exit 3", "exit codes [3]: why"),
    ],
)
def test_a_job_is_judged_by_its_exit_code_and_its_lines(tmp_path, script, result):
    """In any order: workers print as they like."""
    job = Job("name", always("-c", script), ["a", "b"], program="sh")

    assert result == job.run(Path("/bin"), tmp_path / "log")
    assert script in (tmp_path / "log").read_text()


def test_a_job_that_does_not_end_is_killed(tmp_path, monkeypatch):
    """With all that it has started."""
    monkeypatch.setattr(matrix_jobs, "JOB_S", 0.1)
    job = Job("name", always("-c", "sleep 1000 & sleep 1000"), [], program="sh")

    assert "exit codes [124]: not done within 0.1 s" == job.run(Path("/bin"), tmp_path / "log")
