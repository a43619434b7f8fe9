"""What tests share that look at running jobs with `elrun status` and its like."""

import json
import os
import subprocess
import sys

from job_kit import until

WAITS = """
import os, select, sys
os.write(2, b"rank %s is ready\\n" % os.environ["RANK"].encode())
os.write(1, b"ready\\n")
while not os.path.exists("go"):
    select.select([], [], [], 0.05)
"""
"""Workers that say so on both streams, and end once there is a file `go`."""

LATER_S = 120


class Watching:
    """The folder of runs of one test, and commands that look there.

    Args:
        elrun: Starts an agent.
        folder: The folder.
    """

    def __init__(self, elrun, folder):
        self._elrun = elrun
        self.folder = folder
        self.env = {"ELRUN_RUN_DIR": str(folder)}

    def start(self, *args, env=None, ready=1):
        """Start a job; return it once it can be looked at."""
        before = self.records()
        job = self._elrun(*args, env={**self.env, **(env or {})})
        for _ in range(ready):
            job.wait_for_line("ready")
        until(lambda: job.process.poll() is not None or len(self.records()) > len(before))
        return job

    def records(self):
        return [*self.folder.glob("*.run/run.json")]

    def sockets(self):
        return [*self.folder.glob("*.run/control")]

    def run(self, *args, env=None, **options):
        """Run a verb to its end."""
        return subprocess.run(
            [sys.executable, "-m", "elrun", *map(str, args)],
            capture_output=True,
            text=True,
            check=False,
            timeout=LATER_S,
            env={**os.environ, **self.env, **(env or {})},
            **options,
        )

    def status(self, *args):
        """Return what `elrun status --format json` shows."""
        done = self.run("status", *args, "--format", "json")
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)
