"""What `elrun status` and `stacks` say of a rank that hangs among many, and of jobs that failed."""

import json
import re
import signal

import pytest
from job_kit import until
from watching_kit import Watching

ONE_HANGS = """
import os, threading, time

def load_batch():
    threading.Event().wait()

os.write(1, b"ready\\n")
step = 0
while True:
    os.write(2, b"step %d\\n" % step)
    if os.environ["RANK"] == "5":
        load_batch()
    step += 1
    time.sleep(0.2)
"""
ONE_FAILS = """
import os, signal
os.write(1, b"ready\\n")
while not os.path.exists("fail"):
    __import__("select").select([], [], [], 0.05)
if os.environ["RANK"] == "3":
    raise ValueError("no luck")
signal.pause()
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def test_the_rank_that_hangs_is_named(watching, script):
    """By the status, since it alone is silent; and its stack comes first."""
    job = watching.start("--standalone", "--nproc-per-node", 16, script(ONE_HANGS), ready=16)

    until(lambda: "rank 5 has printed nothing for " in watching.run("status").stdout)
    stacks = watching.run("stacks")
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    heads = re.findall(r"^ranks? .*$", stacks.stdout, re.MULTILINE)
    assert heads[0].startswith("rank 5 (")
    assert 'script.py", line 5 in load_batch' in stacks.stdout.partition("\n\n")[0]


def test_a_failed_job_of_two_agents_is_shown_whole(watching, script, tmp_path, vacant_endpoint):
    """With the end of each rank on both, and as two lines of the list."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    options = (*meeting, "--rdzv-id", "two", "--nproc-per-node", 2, script(ONE_FAILS))
    jobs = [watching.start(*options, ready=ready) for ready in (0, 2)]
    until(lambda: len(watching.status()["ranks"]) == 4)
    (tmp_path / "fail").touch()
    codes = [job.finish()[0] for job in jobs]

    found, shown = watching.status("two"), watching.run("status", "two").stdout
    listed = json.loads(watching.run("status", "--all", "--format", "json").stdout)

    assert [1, 1] == codes
    assert [(0, "failed"), (1, "failed")] == [
        (each["group_rank"], each["state"]) for each in found["nodes"]
    ]
    assert [0, 1, 2, 3] == [each["rank"] for each in found["ranks"]]
    assert "failed (1)" == found["ranks"][3]["state"]
    assert "ValueError: no luck" in found["ranks"][3]["last_line"]
    assert "STATE       LAST LINE\n" in shown
    assert [("two", "failed", False)] * 2 == [
        (each["run_id"], each["state"], each["is_running"]) for each in listed
    ]
