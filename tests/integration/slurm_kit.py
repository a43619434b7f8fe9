"""A real SLURM of two nodes with a network each, for the tests of one file."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from elrun.launcher.plan.task_launchers import FIRST_PORT

REPOSITORY = Path(__file__).parents[2]
CLUSTER_TOOL = Path(
    os.environ.get("ELRUN_SLURM_CLUSTER", REPOSITORY.parent / "shared/tools/slurm-cluster")
)
# Debian's daemons are in sbin; the nodes find elrun on the PATH that sbatch hands on.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
MISSING = [
    name
    for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun")
    if not shutil.which(name, path=PATH)
]

MARKS = [
    pytest.mark.integration,
    pytest.mark.slurm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(
        not CLUSTER_TOOL.exists(), reason=f"no {CLUSTER_TOOL} (ELRUN_SLURM_CLUSTER names it)"
    ),
]

STARTS = 3
MOST_JOBS = 100  # of one cluster, each with a port of its own for the rendezvous
# The states of a job that is over; a job that runs may be shown as COMPLETING or SIGNALING, too.
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED", "NODE_FAIL")
SAY = 'echo "rank $RANK of $WORLD_SIZE on $(hostname)"'


class Cluster:
    """A running cluster.

    Args:
        folder: Where its state is.
        environment: That of its users.
    """

    def __init__(self, folder, environment):
        self._folder = folder
        self._environment = environment

    def sbatch(self, output, *arguments, meanwhile=lambda: None):
        """Submit a job, wait for its end, and return its exit code and output.

        Args:
            output: Where the output goes.
            *arguments: What else sbatch is told.
            meanwhile: Called once it is submitted.
        """
        arguments = ("--parsable", "--nodes=2", f"--output={output}", *arguments)
        job = self.run("sbatch", *arguments).strip()
        meanwhile()
        # `sbatch --wait` looks after 2, 10, 42 s; a job that depends on this one starts at its end.
        self.run("srun", "--nodes=1", f"--dependency=afterany:{job}", "true")
        code = re.search(r"ExitCode=(\d+):0", self.run("scontrol", "show", "job", job))
        return int(code[1]), output.read_text()

    def show_job(self, job):
        """Return what ``scontrol show job`` says, by name."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", job)))

    def cancel_all(self):
        self.run("scancel", "--user", os.getuid())

    def cut_power(self, node):
        """End a node with all that runs there, without a word."""
        os.kill(int((self._folder / f"{node}.pid").read_text()), signal.SIGKILL)

    def run(self, *command):
        """Run a command of a user's; return what it prints."""
        return subprocess.run(
            [str(word) for word in command],
            check=True,
            env=self._environment,
            cwd=REPOSITORY,
            timeout=200,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout


@contextlib.contextmanager
def cluster_in(folder, conf=""):
    """Start a cluster of two nodes whose state is in a folder.

    Args:
        folder: The folder.
        conf: What is added to SLURM's configuration.
    """
    environment = {name: value for name, value in os.environ.items() if name[:6] != "SLURM_"}
    environment |= {"PATH": PATH, "SLURM_CLUSTER_DIR": str(folder)}
    environment["SLURM_CLUSTER_EXTRA"] = conf

    def tool(*arguments):
        """Return the tool's exit code and what it prints."""
        done = subprocess.run(
            [CLUSTER_TOOL, *arguments], env=environment, check=False, text=True, capture_output=True
        )
        return done.returncode, done.stdout + done.stderr

    def conf_path():
        return re.search(r"SLURM_CONF='(.*)'", tool("env")[1]).group(1)

    def up():
        """Start the cluster; return why there is none, or nothing."""
        code, output = tool("up", "2")
        if code:
            return output
        port = int(re.search(r"SlurmctldPort=(\d+)", Path(conf_path()).read_text()).group(1))
        if port >= FIRST_PORT + MOST_JOBS:
            return ""
        tool("down")
        return f"its port, {port}, may be that of a job's rendezvous"

    # The tool draws a network and ports: another program may have them, or a job get them.
    starts = (up() for _ in range(STARTS))
    failures = list(itertools.takewhile(bool, starts))
    assert len(failures) < STARTS, failures
    try:
        yield Cluster(folder, environment | {"SLURM_CONF": conf_path()})
    finally:
        code, output = tool("down")
        assert 0 == code, output
