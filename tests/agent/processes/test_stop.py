"""What a stop does once all have ended."""

import subprocess
import sys

import pytest

STOP_WHAT_HAS_ENDED = """
import subprocess, sys
from elrun.agent.processes.process import WorkerProcess
from elrun.agent.processes.stop import Stop
from elrun.agent.system.pidfd import NEVER, wait_readable
from elrun.agent.system.prctl import set_subreaper
from elrun.agent.system.process_tree import ProcessTree

set_subreaper(on=True)
child = subprocess.Popen(["true"], start_new_session=True)
worker = WorkerProcess(child.pid)
tree = ProcessTree("mark")
tree.add(worker.pid, worker.start)
wait_readable({worker.ended_fd}, NEVER)
stop = Stop([worker], tree, 15)
outlasts = stop.outlasts(0)
looks = []
sys.addaudithook(lambda event, args: looks.append(args) if event in ("open", "os.listdir") else 0)
print(outlasts, stop.finish(0), looks)
"""


@pytest.mark.integration
def test_a_stop_does_not_look_again_once_nothing_is_left():
    """The next attempt is not forked before the stop is over."""
    program = [sys.executable, "-c", STOP_WHAT_HAS_ENDED]

    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout

    assert "False set() []\n" == found
