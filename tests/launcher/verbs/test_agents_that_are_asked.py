"""Agents as the verbs see them, which may run in another namespace of process ids."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
from elrun.agent.serving.local_sockets import listen_in

CODE = """
import sys
from elrun.launcher.report.runs import Run
from elrun.launcher.verbs.asking import Agent
agent = Agent(Run(sys.argv[1], True, {"agent_pid": int(sys.argv[2])}))
print(agent.is_hidden, agent.is_in_our_namespace)
"""


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="makes a namespace")
@pytest.mark.parametrize(("prefix", "expected"), [([], "False True"), (["-pf"], "True False")])
def test_an_agent_of_another_namespace_is_hidden(tmp_path, prefix, expected):
    """A container may share the folder of runs with its host."""
    with contextlib.closing(listen_in(str(tmp_path), "control")):
        command = [sys.executable, "-c", CODE, str(tmp_path), str(os.getpid())]
        done = subprocess.run(
            ["unshare", *prefix, *command], capture_output=True, timeout=60, check=False, text=True
        )

    assert f"{expected}\n" == done.stdout, done.stderr
