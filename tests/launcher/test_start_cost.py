"""What a start of elrun costs: which modules it loads, and how many instructions it takes.

Seconds differ from run to run and from machine to machine; these two do not.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from elrun.rendezvous.network.ports import free_port

pytestmark = pytest.mark.integration

HEAVY = {"torch", "rich", "asyncio", "importlib.metadata", "multiprocessing", "http", "psutil"}
# Beside what an interpreter has loaded that runs `python -m MODULE` and does nothing.
AT_START = {
    "_ctypes",  # prctl has no other caller
    *("_weakrefset", "threading"),  # folders for log files are made in a thread
    *("__future__", "_socket", "atexit", "collections.abc", "enum", "errno", "fcntl", "gc"),
    *("itertools", "select", "signal", "time"),
}
LAST_BEFORE_WORKERS = "elrun.agent.processes.command_context"
LOADED_AFTER_A_SECOND = "elrun.agent.control.companion"
NOTHING = "import runpy, functools, contextlib"
START = """
import gc
gc.disable()  # as elrun's main does, and the next
from elrun.own_modules import find_own_modules_first
find_own_modules_first()
from elrun.launcher import cli

launched = []
code = cli.run(
    ["--standalone", "--nproc-per-node", "2", __file__],
    lambda *config: launched.append(config),
)
assert (0, 1) == (code, len(launched))
import elrun.launcher.launch
"""
MOST_STARTS = 3.42
CALLGRIND = ["valgrind", "--tool=callgrind"]


@pytest.fixture(name="job")
def _job(tmp_path):
    """Return the words that run an empty script, and its environment."""
    script = tmp_path / "empty.py"
    script.write_text("")
    # Not those of the person who runs the tests: with LOGLEVEL a start takes a quarter more.
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "ELRUN_KEEP_STDERR": "0"}
    environ |= {"ELRUN_RUN_DIR": os.devnull}
    return ["--standalone", "--nproc-per-node", "2", str(script)], environ, tmp_path


def names_from_last(lines):
    """Yield what was loaded, the last first, without what is loaded after a second.

    Nodes that start on a busy machine may meet after that only.
    """
    late = None  # how far its name is indented: what it has loaded stands before it, further in
    for line in reversed(lines):
        if "|" not in line:
            continue
        shown = line.rpartition("|")[2]
        name = shown.strip()
        depth = len(shown) - len(name)
        if late is None or depth <= late:
            late = depth if name == LOADED_AFTER_A_SECOND else None
        if late is None:
            yield name


def imports_of(words, environ, folder):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    names = list(reversed([*names_from_last(done.stderr.splitlines())]))
    # A quarter of a second later an agent loads what a failure needs: on a busy machine, too.
    last = LAST_BEFORE_WORKERS
    return {*(names[: names.index(last) + 1] if last in names else names)}


def test_a_start_loads_only_what_it_needs(job):
    """A module of the standard library takes up to some milliseconds, one of ours up to one."""
    words, environ, folder = job
    imported = imports_of(["-m", "elrun", *words], environ, folder)
    nothing = imports_of(["-c", NOTHING], environ, folder)

    ours = {module for module in imported if module.partition(".")[0] == "elrun"}

    assert set() == imported - nothing - ours - AT_START
    assert 10 < len(ours) <= 92  # of which 15 are rooms, and one finds the others


def test_a_node_that_meets_others_loads_nothing_that_it_can_do_without(job):
    """``typing`` takes half a megabyte of each agent, ``json`` a twentieth of its start."""
    _, environ, folder = job
    words = ["-m", "elrun", "--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "job"]
    words += ["--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-conf"]
    script = str(folder / "empty.py")
    guest = [sys.executable, *words, "is_host=0", script]
    with subprocess.Popen(guest, env=environ, cwd=folder):
        of_host = imports_of([*words, "is_host=1", script], environ, folder)
    host = [sys.executable, *words, "is_host=1", script]
    with subprocess.Popen(host, env=environ, cwd=folder):
        of_guest = imports_of([*words, "is_host=0", script], environ, folder)

    assert set() == (of_host | of_guest) & {"typing", "json", "re", "queue", "ctypes"}
    assert [True, False] == [
        "elrun.rendezvous.stores.server.table" in loaded for loaded in (of_host, of_guest)
    ]


def test_the_help_loads_nothing_heavy(job):
    """Somebody waits for it."""
    _, environ, folder = job

    assert set() == HEAVY & imports_of(["-m", "elrun", "--help"], environ, folder)


def test_the_installed_command_loads_what_the_module_loads(job):
    """pip writes it: before version 25.2 it wrote `import re`, 25 million instructions."""
    words, environ, folder = job
    command = shutil.which("elrun", path=os.path.dirname(sys.executable))

    assert command is not None
    assert {"elrun.__main__"} == (
        imports_of([command, *words], environ, folder)
        - imports_of(["-m", "elrun", *words], environ, folder)
    )


def test_a_look_at_the_only_job_loads_no_parser(job):
    """Click takes as long as all the rest of it."""
    _, environ, folder = job
    look = "from elrun.launcher import cli; assert cli.run(['status']) == 1"
    environ |= {"ELRUN_RUN_DIR": str(folder), "ELRUN_REPORT_DIR": str(folder)}

    assert set() == {"click", *HEAVY} & imports_of(["-c", look], environ, folder)


def instructions_of(program, environ, folder):
    path = folder / "program.py"
    path.write_text(program)
    # Afterwards all modules are compiled: to compile one takes more than to run it.
    subprocess.run([sys.executable, str(path)], env=environ, cwd=folder, check=True)
    done = subprocess.run(
        [*CALLGRIND, f"--callgrind-out-file={folder / 'counts'}", sys.executable, str(path)],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts the instructions")
def test_a_start_takes_few_instructions(job):
    """Until the agent begins; counted in starts of an interpreter that does nothing."""
    _, environ, folder = job
    nothing = instructions_of("", environ, folder)
    start = instructions_of(START, environ, folder)

    assert start / nothing < MOST_STARTS
