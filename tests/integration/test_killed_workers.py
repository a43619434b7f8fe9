"""Workers that a signal kills: the report says why, as far as the kernel tells."""

import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

MIB = 1 << 20
LIMIT = 128 * MIB
VERSION_1 = Path("/sys/fs/cgroup/memory")

SWALLOW = """
import os, signal
if os.environ["RANK"] == "1":
    held = []
    while True:
        held.append(bytearray(os.urandom(4096)) * 1024)
signal.pause()
"""
DATA_LOADER = """
import os, signal, subprocess, sys
if os.environ["RANK"] == "1":
    child = "held = []\\nwhile True: held.append(bytearray(b'x' * 4194304))"
    code = subprocess.run([sys.executable, "-c", child]).returncode
    raise SystemExit(f"DataLoader worker is killed by signal {-code}")
signal.pause()
"""


@pytest.fixture(name="in_small_cgroup")
def _in_small_cgroup():
    """Return the words before a command that run it in a memory cgroup of 128 MiB."""
    own = next(
        (
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.split(":")[1] == "memory"
        ),
        None,
    )
    parent = VERSION_1 / str(own).lstrip("/")
    folder = (parent if parent.is_dir() else VERSION_1) / f"elrun-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError as error:
        pytest.skip(f"no memory cgroup of version 1 can be made: {error}")
    yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    folder.rmdir()


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_worker_without_memory_is_explained_with_limit_and_size(
    elrun, script, in_small_cgroup, max_restarts
):
    """Each attempt has a count of its own, so that the second one is explained as well."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", max_restarts)
    job = elrun(*options, script(SWALLOW), prefix=in_small_cgroup)

    code, _, err = job.finish()

    assert (137, 1 + max_restarts) == (code, err.count("memory ran out: the kernel killed it")), err
    assert "(elrun's cgroup, limit 128 MiB, peak 128 MiB)" in err


def test_a_process_of_a_worker_that_memory_cost_is_explained(elrun, script, in_small_cgroup):
    """As where a process of a DataLoader is killed, and the worker raises."""
    options = ("--standalone", "--nproc-per-node", 2)
    job = elrun(*options, script(DATA_LOADER), prefix=in_small_cgroup)

    code, _, err = job.finish()

    assert (1, True) == (
        code,
        "memory ran out meanwhile: the kernel killed a process of elrun's cgroup, limit 128" in err,
    ), err


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (
            signal.SIGKILL,
            137,
            "another process sent SIGKILL, or the worker itself: memory did ",
        ),
        (signal.SIGTERM, 143, "another process sent the signal, or the worker itself did"),
        (signal.SIGUSR1, 138, "another process sent the signal, or the worker itself did"),
    ],
)
def test_a_signal_from_outside_is_named_as_such(elrun, script, number, code, words):
    """elrun knows which signals it has sent itself."""
    job = elrun(
        "--standalone", script("import os; print(os.getpid(), flush=True); input()"), stdin=-1
    )
    pid = int(job.wait_for_line(""))

    os.kill(pid, number)

    exit_code, _, err = job.finish()
    assert (code, True) == (exit_code, words in err), err


TOO_MUCH_FOR_A_FILE = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("big", "wb") as file:
    file.write(bytes(1 << 20))
"""


@pytest.mark.parametrize(
    ("limit", "program", "code", "words"),
    [
        ("-t 1", "while True: pass", 152, "it has used up its CPU time: 1 s (ulimit -t)"),
        (
            "-f 8",
            TOO_MUCH_FOR_A_FILE,
            153,
            "a file got larger than a file may get: ",
        ),
    ],
)
def test_a_limit_is_named_with_its_figure(elrun, script, limit, program, code, words):
    """The worker has it from elrun, and elrun from its shell."""
    shell = ["sh", "-c", f'ulimit -S {limit} && exec "$@"', "sh"]
    job = elrun("--standalone", script(program), prefix=shell)

    exit_code, _, err = job.finish()

    assert (code, True) == (exit_code, words in err), err


MAPPED_AND_CUT = """
import mmap
with open("cut", "wb+") as file:
    file.truncate(1 << 20)
    mapped = mmap.mmap(file.fileno(), 1 << 20)
    file.truncate(0)
    mapped[1 << 16]
"""


def test_a_bus_error_names_what_it_may_be(elrun, script):
    """A file that was cut short, and how much room shared memory has."""
    job = elrun("--standalone", script(MAPPED_AND_CUT))

    code, _, err = job.finish()

    words = "a file that it had mapped into memory was cut short, or its file system was full"
    assert (135, True) == (code, words in err), err


def test_a_fault_of_a_gpu_in_the_kernels_log_is_named(elrun, script):
    """The driver logs it as an Xid; a line in its form is written to the log here."""
    fault = "Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
    try:
        log = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError as error:
        pytest.skip(f"the kernel's log can't be written to: {error}")
    job = elrun(
        "--standalone",
        script("import os; print('ready', flush=True); input(); os.abort()"),
        stdin=-1,
    )
    job.wait_for_line("ready")
    os.write(log, f"elrun-test: NVRM: {fault}\n".encode())
    os.close(log)
    job.process.stdin.write("go\n")
    job.process.stdin.flush()

    code, _, err = job.finish()

    assert (134, True) == (code, f"a GPU reported a fault: {fault}" in err), err
