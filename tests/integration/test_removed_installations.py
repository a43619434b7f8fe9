"""Removing elrun while a job runs costs the job neither its exit code nor its words."""

import shutil
import signal
from pathlib import Path

import pytest
import rich

import elrun as installed

pytestmark = pytest.mark.integration

ENDS = """
import os, signal, sys, time
from pathlib import Path

def raises():
    raise ValueError("bad batch")

def exits():
    sys.exit(7)

def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def aborts():
    os.abort()

def port():
    raise OSError(98, "Address already in use: port 1")

def well():
    print("well")

print("ready", flush=True)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    while not Path("go").exists():
        time.sleep(0.02)
if os.environ["RANK"] == "1":
    time.sleep(1000)
globals()[sys.argv[1]]()
"""


def half_write(folder):
    """Leave files as an upgrade may that ran out of disk."""
    for path in folder.rglob("*.py"):
        path.write_text("def (")
    for path in folder.rglob("__pycache__"):
        shutil.rmtree(path)


@pytest.fixture(name="copied")
def _copied(tmp_path):
    """A folder with copies of elrun and rich, and an environment that has elrun run from there."""
    folder = tmp_path / "packages"
    for package in (installed, rich):
        origin = Path(package.__file__).parent
        shutil.copytree(origin, folder / package.__name__)
    return folder, {"PYTHONPATH": str(folder), "LOGLEVEL": "INFO", "PYTHONFAULTHANDLER": ""}


class Kept:
    """A job of a copied elrun that has kept its modules; its workers wait until ``go``.

    Args:
        elrun: Starts a job.
        copied: The copy.
        tmp_path: Where the job runs.
        args: Its options, its script and the script's arguments.
    """

    def __init__(self, elrun, copied, tmp_path, *args):
        self._folder, environment = copied
        self._tmp_path = tmp_path
        self.job = elrun(*args, env=environment)
        self.job.wait_for_line("ready")
        self.said = ""
        for line in self.job.process.stderr:
            self.said += line
            if "modules are kept" in line:
                break

    def change(self, how):
        for package in ("elrun", "rich"):
            how(self._folder / package)

    def go(self):
        (self._tmp_path / "go").touch()


@pytest.mark.parametrize("change", [shutil.rmtree, half_write])
@pytest.mark.parametrize("options", [(), ("--redirects", 2)])
@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("raises", 1, "ValueError: bad batch"),
        ("exits", 7, "rank 0 exited with code 7 ("),
        ("is_killed", 137, "rank 0 was killed by SIGKILL ("),
        ("aborts", 134, "rank 0 was killed by SIGABRT ("),
        ("port", 1, "Address already in use"),
    ],
)
def test_a_failure_is_told_in_full(
    elrun, script, tmp_path, copied, change, options, kind, code, words
):
    """With its table, which another package draws."""
    program = script(ENDS)
    job = Kept(
        elrun, copied, tmp_path, "--standalone", "--nproc-per-node", 2, *options, program, kind
    )
    job.change(change)
    job.go()

    ended, _, err = job.job.finish()

    err = " ".join(err.split())
    assert (code, True) == (ended, words in err), err
    assert "script.py failed: rank 0 " in err
    assert "stopped by elrun (SIGTERM)" in err
    assert [] == [
        each for each in ("elrun itself", "Error in", "changed or removed") if each in err
    ]


def test_a_success_is_one(elrun, script, tmp_path, copied):
    """Whatever of elrun is left by then."""
    job = Kept(elrun, copied, tmp_path, "--standalone", script(ENDS), "well")
    job.change(shutil.rmtree)
    job.go()

    assert 0 == job.job.finish()[0]


def test_a_signal_stops_the_job(elrun, script, tmp_path, copied):
    """In order, and with where its ranks were."""
    stacks = copied[0] / "elrun/agent/system/stacks.py"  # a busy machine needs more than 0.1 s
    stacks.write_text(stacks.read_text().replace("STOP_DUMP_S = 0.1", "STOP_DUMP_S = 30.0"))
    job = Kept(elrun, copied, tmp_path, "--standalone", script(ENDS), "well")
    job.change(shutil.rmtree)
    job.job.signal(signal.SIGTERM)

    code, _, err = job.job.finish()

    assert 143 == code, err
    assert "elrun: stopped by SIGTERM; none of its workers is left" in err
    assert "when the signal came: rank 0 in " in err


def test_a_failure_spends_a_restart(elrun, script, tmp_path, copied):
    """The workers of the next attempt run without the hook, which is gone."""
    options = ("--standalone", "--max-restarts", 1)
    job = Kept(elrun, copied, tmp_path, *options, script(ENDS), "exits")
    job.change(shutil.rmtree)
    job.go()

    code, _, err = job.job.finish()

    assert (7, True) == (code, "after 1 of 1 restarts" in err), err


AT_ONCE = """
import os, shutil, sys
for folder in sys.argv[2:]:
    shutil.rmtree(folder)
if sys.argv[1] != "0":
    sys.exit(int(sys.argv[1])) if int(sys.argv[1]) > 0 else os.kill(os.getpid(), -int(sys.argv[1]))
"""


@pytest.mark.parametrize(("end", "code"), [("7", 7), ("-11", 139), ("-9", 137), ("0", 0)])
def test_a_removal_right_at_the_start_keeps_the_exit_code(elrun, script, copied, end, code):
    """elrun has kept nothing by then: it says so in one sentence."""
    folder, environment = copied
    gone = [folder / "elrun", folder / "rich"]

    ended, _, err = elrun("--standalone", script(AT_ONCE), end, *gone, env=environment).finish()

    assert (code, False) == (ended, "Traceback" in err), err
    assert end == "0" or "a worker " in err or "rank 0 " in err, err


def test_two_agents_end_as_if_nothing_was_removed(elrun, script, tmp_path, copied, vacant_endpoint):
    """The node whose worker fails, and the other one."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    options = (*meeting, "--rdzv-id", "job")
    folder, environment = copied
    program = script(ENDS)
    nodes = [elrun(*options, program, "raises", env=environment) for _ in range(2)]
    for node in nodes:
        node.wait_for_line("ready")
        while "modules are kept" not in node.process.stderr.readline():
            pass
    shutil.rmtree(folder)
    (tmp_path / "go").touch()

    ends = [node.finish() for node in nodes]

    assert [1, 1] == [code for code, *_ in ends], ends
    assert all("rank 0 exited with code 1" in err for *_, err in ends), ends
    assert all("ValueError: bad batch" in err for *_, err in ends), ends
