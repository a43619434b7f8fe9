"""``mpirun -n N elrun SCRIPT`` is one job of N nodes, under each mpirun that this machine has."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

TIMEOUT_S = 100
COMMANDS = {
    "mpirun.openmpi": ["--allow-run-as-root", "--oversubscribe", "-n", "3"],
    "mpiexec.hydra": ["-n", "3"],
}
SHOW = """
import os, sys
line = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK")]
sys.stdout.write(" ".join(line) + "\\n")
"""


@pytest.fixture(name="launcher", params=COMMANDS)
def _launcher(request):
    """Return the start of a command line that starts three tasks."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return [request.param, *COMMANDS[request.param]]


def run(launcher, folder, *words):
    return subprocess.run(
        [*launcher, sys.executable, "-m", "elrun", *words],
        capture_output=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_tasks_are_the_nodes_of_one_job(launcher, tmp_path):
    """Ranks are the tasks' own."""
    (tmp_path / "show.py").write_text(SHOW)

    done = run(launcher, tmp_path, "show.py")

    assert (0, ["0 3 0 0", "1 3 1 0", "2 3 2 0"]) == (
        done.returncode,
        sorted(done.stdout.splitlines()),
    ), done.stderr
    assert 1 == done.stderr.count("--nnodes 3 --rdzv-backend c10d --rdzv-endpoint localhost:")


def test_a_task_s_failure_ends_all_of_them(launcher, tmp_path):
    """With the worker's exit code."""
    (tmp_path / "fail.py").write_text("import os, sys\nsys.exit(7 * (os.environ['RANK'] == '1'))\n")

    done = run(launcher, tmp_path, "fail.py")

    assert 7 == done.returncode, done.stderr
