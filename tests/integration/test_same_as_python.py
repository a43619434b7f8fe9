"""Whatever Python runs, elrun runs, and the program can't tell: but for its rank it is the same."""

import os
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.integration

# Prints what depends on how it was found, and has a child that must import it again.
PROGRAM = """
import multiprocessing, os, pickle, sys

class Own: pass

def twice(number): return 2 * number

if __name__ == "__main__":
    print(ascii(sys.argv), ascii(sys.path[0]), ascii(__file__), __package__, type(__spec__))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(twice, [21]), type(pickle.loads(pickle.dumps(Own()))))
"""
NEIGHBOUR = "import beside; print(beside.__file__)"
UNGUARDED = """
import multiprocessing

child = multiprocessing.get_context("spawn").Process(target=print)
child.start()
child.join()
print("its child ended with", child.exitcode)
"""


@pytest.fixture(name="python")
def _python(tmp_path):
    """Run ``python ARGS`` and return what it says; elrun in between where asked for."""

    def run(*args, launcher=()):
        done = subprocess.run(
            [sys.executable, *launcher, *args],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if not k.startswith(("PET_", "SLURM_"))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        return done.returncode, done.stdout

    return run


LAUNCHER = ("-m", "elrun")


@pytest.mark.parametrize(
    "name", [b"with space.py", b"no_suffix", b"bytes\xff\xe9.py", "ünï.py".encode(), b"./-x.py"]
)
@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["executed", "preloaded"])
def test_a_script_may_have_any_name(python, tmp_path, name, options):
    """With spaces, bytes that are no text, or like an option's."""
    (tmp_path / os.fsdecode(name)).write_text(PROGRAM)

    expected = python(name, "a b", "-m")

    assert 0 == expected[0]
    assert expected == python(name, "a b", "-m", launcher=(*LAUNCHER, *options))


@pytest.mark.parametrize("target", [("folder",), ("archive.pyz",), ("-m", "package")], ids=str)
def test_folders_archives_and_packages_run(python, tmp_path, target):
    """By their ``__main__.py``, with what lies beside it."""
    for folder in ("folder", "package"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "beside.py").write_text("")
    (tmp_path / "folder" / "__main__.py").write_text(NEIGHBOUR)
    (tmp_path / "package" / "__main__.py").write_text("from . " + NEIGHBOUR)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", NEIGHBOUR)
        archive.writestr("beside.py", "")

    expected = python(*target)

    assert 0 == expected[0]
    assert expected == python(*target, launcher=LAUNCHER)


@pytest.mark.parametrize("options", [(), ("--run-path",)], ids=["script", "run-path"])
def test_a_script_without_a_guard_fares_as_it_does_in_python(python, tmp_path, options):
    """Its child may not start another; what the script makes of that is its own."""
    (tmp_path / "script.py").write_text(UNGUARDED)

    expected = python("script.py")

    assert b"its child ended with 1\n" in expected[1]
    assert expected == python("script.py", launcher=(*LAUNCHER, *options))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_worker_s_threads_take_turns_as_in_python(python, tmp_path, method):
    """The agent's own take shorter ones, and a forked worker is a copy of it."""
    (tmp_path / "script.py").write_text("import sys; print(sys.getswitchinterval())")

    launcher = (*LAUNCHER, "--run-path", "--start-method", method)

    assert python("script.py") == python("script.py", launcher=launcher)


PROGRAM_THAT_LAUNCHES = """
from elrun import LaunchConfig, elastic_launch

def work(): pass

elastic_launch(LaunchConfig(1, 1, 1, max_restarts=0), work)()
"""


def test_a_program_that_launches_while_it_is_imported_is_told_so(elrun, script):
    """Its workers would import it, to find the function, and launch once more."""
    code, _, err = elrun(script(PROGRAM_THAT_LAUNCHES), command=()).finish()

    assert (1, 1) == (
        code,
        err.count("UsageError: each new process (start_method='spawn') runs this program's top"),
    )


@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["executed", "preloaded"])
def test_a_folder_that_was_deleted_is_no_obstacle(tmp_path, script, options):
    """A shell may stand in one; ``python`` runs there, too."""
    done = in_a_deleted_folder(tmp_path, *options, script("print('it runs')"))

    assert (0, "it runs\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_function_needs_a_folder_that_is_there(tmp_path, script):
    """``multiprocessing`` goes there first; a sentence says so."""
    done = in_a_deleted_folder(tmp_path, "--run-path", script("print('it runs')"))

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("elrun: the working directory has been deleted, and functions")


def in_a_deleted_folder(tmp_path, *args):
    (tmp_path / "gone").mkdir()
    command = 'cd gone && rmdir ../gone && exec "$@"'
    return subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, *LAUNCHER, *map(str, args)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
