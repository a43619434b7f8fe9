"""A restart loads nothing and looks little: what it needs was loaded while the workers ran."""

import os
import subprocess
import sys

import pytest

NOTE_IMPORTS = """
import os, sys, time
if "ELRUN_AGENT" not in os.environ:  # the agent alone
    out = os.open("imports", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(
        lambda event, args: (event == "import" or args == ("/proc",))
        and os.write(out, f"{time.monotonic()} {args[0]}\\n".encode())
    )
"""
WORKER = """
import os, signal, sys, time

def rests():
    with open(f"/proc/{os.getppid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    open(os.environ["RANK"], "w").write(str(time.monotonic()))
elif os.environ["RANK"] == "1":
    if sys.argv[1] == "with a child":
        os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
    signal.pause()
else:
    seen = ""
    # What it loads at last, a second after its start, is in there, and it waits again.
    while "control.companion" not in seen or seen != open("imports").read() or not rests():
        seen = open("imports").read()
        time.sleep(0.2)
    open("death", "w").write(str(time.monotonic()))
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(1)
"""


@pytest.fixture(scope="module", name="late", params=["ended", "killed", "with a child"])
def _late(request, tmp_path_factory):
    """Return how a job was, and what was imported or listed from a death to the last new start."""
    folder = tmp_path_factory.mktemp("restart")
    (folder / "sitecustomize.py").write_text(NOTE_IMPORTS)
    (folder / "work.py").write_text(WORKER)
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]

    done = subprocess.run(
        [sys.executable, "-m", "elrun", *words, "work.py", request.param],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "restart" in done.stderr
    death, *starts = (float((folder / name).read_text()) for name in ("death", "0", "1"))
    noted = [line.split() for line in (folder / "imports").read_text().splitlines()]
    return request.param, [name for at, name in noted if death < float(at) < max(starts)]


def test_a_restart_loads_no_module(late):
    """Between the death of a worker and the first line of the new attempt's last one."""
    assert [] == [name for name in late[1] if name != "/proc"]


def test_a_restart_looks_through_all_processes_only_where_a_worker_has_children(late):
    """Threads say whether there are any; those of a worker are looked for until they have ended."""
    how, found = late

    assert (how == "with a child") == ("/proc" in found)


IGNORES_TERM = """
import os, signal, time

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    raise SystemExit
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK"] == "1":
    open("ignores", "w").close()
    while True:
        signal.pause()
while not os.path.exists("ignores"):
    time.sleep(0.01)
os._exit(1)
"""


def test_a_restart_that_takes_long_is_announced_before_what_takes_long_is_over(tmp_path):
    """The line comes after the next start, but not after half a minute without a word."""
    (tmp_path / "work.py").write_text(IGNORES_TERM)
    options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]

    done = subprocess.run(
        [sys.executable, "-m", "elrun", *options, "--shutdown-timeout", "1", "work.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr.index("restarting all workers") < done.stderr.index("killed")
