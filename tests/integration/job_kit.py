"""What tests of jobs of several agents share: a job that can be told to go on, and waits."""

import select
import socket
from pathlib import Path

GOES_ON = Path(__file__).with_name("programs") / "goes_on.py"


class RunningJob:
    """Two agents whose workers run; ``go`` lets one fail, so that all meet again.

    Args:
        elrun: Starts an agent.
        meeting: Options that say where they meet.
        go: A path that isn't there yet; written when the workers are to go on.
        more: Further options.
    """

    WELL = [(0, "running 0\nrunning 1\n")] * 2
    """How both end: their exit codes and what they write."""

    def __init__(self, elrun, meeting, go, *more):
        options = [*meeting, "--rdzv-id", "job/1", "--nnodes", 2, "--max-restarts", 1, *more]
        self._jobs = [elrun(*options, GOES_ON, env={"GO": str(go)}) for _ in range(2)]
        self.go = go
        for job in self._jobs:
            job.wait_for_line("running 0")

    def ends(self):
        """Return exit code, standard output and standard error of both agents."""
        return [job.finish() for job in self._jobs]


def can_connect(endpoint):
    """Return whether somebody listens there, at an IPv4 address or a name."""
    host, port = endpoint.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def until(condition):
    """Return once the condition holds; the test's time-out bounds the wait."""
    while not condition():
        select.select([], [], [], 0.05)
