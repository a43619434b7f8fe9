"""`elrun stacks`, `logs` and `stop` of real jobs, on one node and on two that share no folder."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from job_kit import until
from watching_kit import WAITS, Watching

HANGS = """
import os, threading, time

def load_batch():
    threading.Event().wait()

def wait_for_all():
    while not os.path.exists("go"):
        time.sleep(0.01)

os.write(1, b"ready\\n")
load_batch() if os.environ["RANK"] == "1" else wait_for_all()
"""
LAST_WORDS = f"""
import os, signal
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"saved\\\\n"), os._exit(0)))
{WAITS}
"""
STUBBORN = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{WAITS}
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


@pytest.fixture(name="pair")
def _pair(elrun, tmp_path, vacant_endpoint):
    """Start two agents of one job, whose folders are apart, as if they were on two hosts."""
    here, there = (Watching(elrun, tmp_path / name) for name in ("here", "there"))

    def start(*args):
        meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
        jobs = []
        for each, ready in ((here, 0), (there, 1)):
            jobs.append(each.start(*meeting, "--rdzv-id", "pair", *args, ready=ready))
        jobs[0].wait_for_line("ready")
        return here, there, jobs

    return start


def test_the_stacks_of_all_nodes_are_shown_the_odd_one_first(pair, script):
    """From either node; equal stacks stand together."""
    here, there, jobs = pair("--nproc-per-node", 2, script(HANGS))

    shown = [each.run("stacks") for each in (here, there)]
    one = here.run("stacks", "--rank", 2)
    jobs[0].signal(signal.SIGTERM)
    jobs[1].signal(signal.SIGTERM)
    for job in jobs:
        job.finish()

    for done in shown:
        heads = re.findall(r"^ranks? .*$", done.stdout, re.MULTILINE)
        assert (0, 2) == (done.returncode, len(heads)), done
        assert heads[0].startswith("rank 1 (")
        assert "in wait (script.py:5)" in heads[0]
        assert heads[1].startswith("ranks 0, 2-3 (")
        assert 'script.py", line 5 in load_batch' in done.stdout
    assert ["rank 2"] == re.findall(r"^rank \d+", one.stdout, re.MULTILINE)


def test_status_shows_the_ranks_of_the_other_node(pair, script, tmp_path):
    """With what its agent tells."""
    here, _, jobs = pair("--nproc-per-node", 2, script(WAITS))

    found = here.status()
    (tmp_path / "go").touch()

    assert [0, 0] == [job.finish()[0] for job in jobs]
    assert [0, 1] == [node["group_rank"] for node in found["nodes"]]
    assert {"running"} == {node["state"] for node in found["nodes"]}
    assert [0, 1, 2, 3] == [rank["rank"] for rank in found["ranks"]]
    assert all(rank["pid"] and rank["memory_bytes"] for rank in found["ranks"])


def test_a_node_that_does_not_answer_is_named(pair, script, tmp_path):
    """The others are shown."""
    here, _, jobs = pair("--nproc-per-node", 1, script(WAITS))
    jobs[1].signal(signal.SIGSTOP)

    done = here.run("stacks")
    jobs[1].signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    for job in jobs:
        job.finish()

    assert 0 == done.returncode
    assert re.search(r"^rank \d \(", done.stdout)
    assert "no answer from the nodes with group rank " in done.stderr


def test_stacks_of_a_rank_that_is_not_there(watching, script, tmp_path):
    """A sentence says which there are."""
    job = watching.start("--standalone", "--nproc-per-node", 2, script(WAITS), ready=2)

    done = watching.run("stacks", "--rank", 9)
    (tmp_path / "go").touch()

    assert 0 == job.finish()[0]
    assert (1, True) == (done.returncode, "no rank 9 now: it has ranks 0-1" in done.stderr), done


@pytest.mark.parametrize("node", [0, 1])
def test_a_stop_ends_the_job_on_all_nodes(pair, script, node):
    """The workers get SIGTERM and their time; each elrun ends as after SIGTERM."""
    *watchings, jobs = pair("--nproc-per-node", 1, script(LAST_WORDS))

    done = watchings[node].run("stop")

    ends = [job.finish() for job in jobs]
    assert (0, [143, 143]) == (done.returncode, [code for code, _, _ in ends]), done
    assert all("saved" in out for _, out, _ in ends)
    assert all("the job was stopped by `elrun stop` on " in err for _, _, err in ends)
    reports = [
        json.loads(next(each.folder.glob("*/report.json")).read_text()) for each in watchings
    ]
    assert [("stopped", 143)] * 2 == [(each["state"], each["exit_code"]) for each in reports]
    assert all("`elrun stop`" in each["reason"] for each in reports)


def test_a_stop_at_once_kills_what_is_being_stopped(pair, script):
    """Also on the other node, which has been told before that its workers have time."""
    here, _, jobs = pair("--shutdown-timeout", 500, script(STUBBORN))
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "stop"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **here.env},
    ) as patient:
        assert "its workers have 500 s to end" in patient.stderr.readline()
        done = here.run("stop", "--now")
        rest = patient.stderr.read()

    assert [143, 143] == [job.finish()[0] for job in jobs]
    assert (0, 0, True) == (done.returncode, patient.returncode, "has been stopped" in rest)


def test_a_stop_ends_a_job_that_waits_for_nodes(watching, script, vacant_endpoint):
    """There are no workers yet."""
    meeting = ("--nnodes", 3, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script(WAITS)
    jobs = [watching.start(*meeting, "--rdzv-id", "w", path, ready=0) for _ in range(2)]

    done = watching.run("stop")

    assert (0, [143, 143]) == (done.returncode, [job.finish()[0] for job in jobs]), done


def test_a_stop_ends_all_agents_of_a_host(watching, script, vacant_endpoint):
    """Both are asked, whichever ends first."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script(WAITS)
    jobs = [watching.start(*meeting, "--rdzv-id", "w", path, ready=n) for n in (0, 1)]

    done = watching.run("stop", "w")
    again = watching.run("stop", "w")

    assert (0, [143, 143]) == (done.returncode, [job.finish()[0] for job in jobs]), done
    assert (1, True) == (again.returncode, "has ended already" in again.stderr)


PRINTS = """
import os, select
rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
os.write(1, f"10:00:0{rank} out of rank {rank} in attempt {attempt}\\n".encode())
os.write(2, b"error of rank %s\\n" % rank.encode())
os.write(1, b"ready\\n")
while attempt == "0" and not os.path.exists("fail") or attempt == "1" and not os.path.exists("go"):
    select.select([], [], [], 0.05)
os._exit(attempt == "0")
"""


def test_logs_are_followed_across_a_restart_to_the_end_of_the_job(watching, script, tmp_path):
    """All attempts, rank by rank, or one rank, or merged by time; only lines that match."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "logged")
    logs = ("--log-dir", tmp_path / "logs", "--redirects", 3)
    job = watching.start(*options, *logs, script(PRINTS), ready=0)
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "logs", "--follow", "--rank", "1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **watching.env},
    ) as follow:
        until(lambda: "in attempt 0" in follow.stdout.readline())
        (tmp_path / "fail").touch()
        until(lambda: "in attempt 1" in follow.stdout.readline())
        merged = watching.run("logs", "--merge", "--grep", "out of")
        (tmp_path / "go").touch()
        rest = follow.stdout.read()
    code = job.finish()[0]
    ended = watching.run("logs", "logged")

    assert (0, 0, 0) == (code, follow.returncode, rest.count("rank 0"))
    expected = [f"[{rank}]: 10:00:0{rank} out of rank {rank}" for rank in (0, 0, 1, 1)]
    assert expected == [line.partition(" in")[0] for line in merged.stdout.splitlines()]
    assert 4 == ended.stdout.count("error of rank"), ended
    assert "==> attempt 0, rank 0, stdout <==\n" in ended.stdout


def test_without_log_files_the_last_words_are_shown(watching, script, tmp_path):
    """As far as elrun carries them."""
    job = watching.start("--standalone", "--nproc-per-node", 2, script(WAITS), ready=2)

    done = watching.run("logs", "--rank", 1)
    none = watching.run("logs", "--grep", "(")
    (tmp_path / "go").touch()

    assert 0 == job.finish()[0]
    assert (0, "==> rank 1, its last words <==\nrank 1 is ready\n") == (
        done.returncode,
        done.stdout,
    )
    assert (2, True) == (none.returncode, "--grep '('" in none.stderr)
