"""``elrun.notebook_launch``: functions that stand in no file a new process could import."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

DEFINED = """
import os, elrun

def rank_and(value):
    return int(os.environ["RANK"]), value, os.environ["WORLD_SIZE"]
"""
LAUNCH = "print(elrun.notebook_launch({}, (7,), nproc=2))\n"
BOTH = "{0: (0, 7, '2'), 1: (1, 7, '2')}\n"


@pytest.fixture(name="session")
def _session(tmp_path):
    """Run a program as one that is typed, as the kernel of a notebook does."""

    def run(text):
        return subprocess.run(
            [sys.executable, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=100,
        )

    return run


@pytest.mark.parametrize("function", ["rank_and", "lambda value: rank_and(value)"])
def test_a_function_of_the_session_runs_on_each_worker(session, function):
    """What it returns comes back by rank."""
    done = session(DEFINED + LAUNCH.format(function))

    assert (0, BOTH) == (done.returncode, done.stdout), done.stderr


def test_a_function_of_a_module_runs_in_fresh_processes(session, tmp_path):
    """These import it; what the session has begun does not matter to them."""
    (tmp_path / "mine.py").write_text(DEFINED)
    stand_in = (
        "import sys, types, elrun, mine\n"
        "cuda = types.SimpleNamespace(is_initialized=lambda: True)\n"
        "sys.modules['torch'] = types.SimpleNamespace(cuda=cuda)\n"
    )
    done = session(stand_in + LAUNCH.format("mine.rank_and"))

    assert (0, BOTH) == (done.returncode, done.stdout), done.stderr


def test_a_failure_is_the_worker_s(session):
    """With its exception; the session goes on."""
    failing = "def fails(value):\n    raise KeyError(value)\n"
    caught = (
        "from elrun.agent import ChildFailedError\n"
        "try:\n    elrun.notebook_launch(fails, (7,))\n"
        "except ChildFailedError as error:\n    print('KeyError: 7' in str(error))\n"
    )
    done = session(DEFINED + failing + caught)

    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        (
            (
                "import torch.distributed as dist\n"
                "dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)\n"
            ),
            "a process group was initialised here already",
        ),
        (
            (
                "import sys, types\n"
                "cuda = types.SimpleNamespace(is_initialized=lambda: True)\n"
                "sys.modules['torch'] = types.SimpleNamespace(cuda=cuda)\n"
            ),
            "CUDA was initialised here already",
        ),
    ],
)
def test_what_no_fork_survives_is_refused(session, begun, words):
    """With what to do, before anything starts."""
    done = session(DEFINED + begun + LAUNCH.format("rank_and"))

    assert (1, "") == (done.returncode, done.stdout)
    assert words in done.stderr
    assert "restart the session" in done.stderr
