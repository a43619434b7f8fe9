"""How workers end that are Python functions: as Python ends a program of their own."""

import gzip
import os
import subprocess
import sys
import textwrap

import ending_functions
import pytest
from elrun.agent.processes.start import start_processes
from worker_kit import Logs

pytestmark = pytest.mark.integration

METHODS = ("spawn", "fork", "forkserver")
UNFINISHED = [
    (ending_functions.raise_with_a_file, 1),
    (ending_functions.raise_with_a_file_and_itself, 1),
    (ending_functions.return_with_a_file, 0),
    (ending_functions.return_with_a_binary_file, 0),
    (ending_functions.return_with_a_ring, 0),
    (ending_functions.return_with_a_closure, 0),
    (ending_functions.return_with_a_compressed_file, 0),
    (ending_functions.return_with_a_file_of_c, 0),
    (ending_functions.return_beside_a_daemon_thread, 0),
    (ending_functions.return_with_a_broken_exit_function, 0),
    (ending_functions.exit_with_a_file, 3),
    (ending_functions.interrupt_with_a_file, -2),
]
ODD_ENDS = [
    (ending_functions.exit_with, (2**31,), 0),
    (ending_functions.exit_with, (2**64,), 255),
    (ending_functions.exit_with, (-1,), 255),
    (ending_functions.exit_with, (259,), 3),
    (ending_functions.exit_with, (True,), 1),
    (ending_functions.exit_with, ("text",), 1),
    (ending_functions.exit_with_what_has_no_text, (), 1),
    (ending_functions.raise_what_has_no_text, (), 1),
    (ending_functions.raise_of_its_own, (), 1),
    (ending_functions.recurse, (), 1),
]
FORKING_PROGRAM = """
    import atexit, logging, logging.handlers, os, sys, tempfile, weakref
    from concurrent.futures import ThreadPoolExecutor
    import multiprocessing
    from elrun import LaunchConfig, elastic_launch

    method, notes = sys.argv[1:]

    class Thing:
        def __del__(self):
            note("deleted")

    def note(word):
        with open(notes, "a") as file:
            file.write(f"{word} {os.getpid()}\\n")

    def work():
        import ending_functions
        return ending_functions.clean_up_after_itself(notes + os.environ["RANK"])

    if __name__ == "__main__":
        folder = tempfile.TemporaryDirectory()
        atexit.register(note, "atexit")
        atexit.register(Thing().__hash__)
        weakref.finalize(folder, note, "finalizer")
        held = logging.handlers.MemoryHandler(100, target=logging.FileHandler(notes))
        logging.getLogger("program").addHandler(held)
        logging.getLogger("program").error("log")
        unfinished = open(notes + ".file", "w")
        unfinished.write("once\\n")
        executor = ThreadPoolExecutor()
        executor.submit(int).result()
        config = LaunchConfig(1, 1, 2, run_id="x", start_method=method, monitor_interval=0.1)
        folders = elastic_launch(config, work)()
        assert os.path.isdir(folder.name), "a worker has deleted the folder"
        assert not any(map(os.path.exists, folders.values())), "a worker has not deleted its own"
        print(os.getpid(), folder.name)
"""
LEAVES_AT_EXIT = """
import atexit, os, tempfile
FOLDER = tempfile.TemporaryDirectory()
def note():
    with open(os.environ["NOTES"], "a") as file:
        file.write("atexit\\n")
atexit.register(note)
"""
FORKSERVER_PROGRAM = """
    import multiprocessing, os
    from elrun import LaunchConfig, elastic_launch

    def work():
        import leaves_at_exit
        return leaves_at_exit.FOLDER.name, os.getpid()

    if __name__ == "__main__":
        multiprocessing.set_forkserver_preload(["leaves_at_exit"])
        config = LaunchConfig(1, 1, 2, run_id="x", start_method="forkserver")
        values = elastic_launch(config, work)()
        folders, pids = zip(*values.values())
        assert 1 == len(set(folders))
        assert os.path.isdir(folders[0]), "a worker has deleted the folder"
        print(*pids)
"""


@pytest.fixture(name="run")
def _run(contexts):
    """Run a function in a worker; return how it ended, as an exit code."""

    def run(method, function, *args, logs=None):
        context = start_processes(
            "trainer", function, {0: args}, {0: {}}, logs or Logs(), start_method=method
        )
        contexts.append(context)
        context.wait()
        return context.exits[0].exitcode

    return run


def content_of(path):
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


@pytest.mark.parametrize(("function", "exitcode"), UNFINISHED)
@pytest.mark.parametrize("method", METHODS)
def test_what_was_open_at_the_end_is_written(run, tmp_path, method, function, exitcode):
    """Whatever holds the file, and however the function ends."""
    path = tmp_path / "o.csv"

    assert exitcode == run(method, function, str(path))
    assert b"1,0.5\n" == content_of(path)


@pytest.mark.parametrize(("function", "exitcode"), UNFINISHED)
def test_what_was_open_is_written_beside_torch(run, tmp_path, function, exitcode):
    """A process that has torch ends before C tears it down, and loses nothing."""
    path = tmp_path / "o.csv"

    assert exitcode == run("spawn", ending_functions.with_torch, function, str(path))
    assert b"1,0.5\n" == content_of(path)


@pytest.mark.parametrize("method", METHODS)
def test_what_c_printed_into_a_file_is_written(run, tmp_path, method):
    """C keeps what it prints until it has much, unless it prints to a terminal."""
    path = tmp_path / "stdout.log"

    assert 0 == run(method, ending_functions.print_in_c, logs=Logs(stdouts={0: str(path)}))
    assert ["of C", "of Python"] == sorted(path.read_text().splitlines())


@pytest.mark.parametrize(("function", "args", "exitcode"), ODD_ENDS)
@pytest.mark.parametrize("method", METHODS)
def test_an_odd_end_has_the_exit_code_that_python_gives_it(run, method, function, args, exitcode):
    """Nothing that is raised in a worker ever goes on as a copy of the agent."""
    assert exitcode == run(method, function, *args)


@pytest.mark.parametrize("method", METHODS)
def test_a_standard_error_that_raises_hides_no_failure(run, method):
    """Python itself ends with 120 when it can't flush it."""
    assert run(method, ending_functions.raise_without_a_standard_error) in (1, 120)


def python(folder, program, *args, **environment):
    """Run a program that launches functions of its own."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    search_path = os.pathsep.join([str(folder), os.path.dirname(ending_functions.__file__)])
    return subprocess.run(
        [sys.executable, path, *map(str, args)],
        env={**os.environ, "PYTHONPATH": search_path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_forked_worker_does_not_do_what_its_parent_registered(tmp_path):
    """Exit functions, finalizers, temporary folders, held log records: each is done once."""
    notes = tmp_path / "notes"

    done = python(tmp_path, FORKING_PROGRAM, "fork", notes)

    assert (0, "") == (done.returncode, done.stderr)
    pid, folder = done.stdout.split()
    assert not os.path.exists(folder)
    ours = sorted([f"atexit {pid}", f"deleted {pid}", f"finalizer {pid}", "log"])
    assert ours == sorted(notes.read_text().splitlines())
    assert "once\n" == (tmp_path / "notes.file").read_text()


def test_a_forked_worker_does_what_it_registered_itself(tmp_path):
    """As the parent does at its own end."""
    notes = tmp_path / "notes"

    python(tmp_path, FORKING_PROGRAM, "fork", notes)

    own = ["atexit", "finalizer", "log", "thread"]
    assert [own] * 2 == [
        sorted((tmp_path / f"notes{rank}").read_text().splitlines()) for rank in range(2)
    ]


def test_what_a_fork_server_preloaded_is_not_undone_by_a_worker(tmp_path):
    """The folder that a module made there is every worker's."""
    notes = tmp_path / "notes"
    (tmp_path / "leaves_at_exit.py").write_text(LEAVES_AT_EXIT)

    done = python(tmp_path, FORKSERVER_PROGRAM, NOTES=str(notes))

    assert (0, "") == (done.returncode, done.stderr)
    by_workers = set(done.stdout.split())
    assert set() == by_workers & set(notes.read_text().split() if notes.exists() else ())
