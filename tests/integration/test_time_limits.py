"""``--timeout SECONDS``: the whole job ends by then, in order, on all nodes, with exit code 124."""

import json
import signal

import pytest
from job_kit import until

pytestmark = pytest.mark.integration

SAVES = """
import signal, sys
def save(*_):
    sys.stdout.write("saved\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
while True: signal.pause()
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: signal.pause()
"""
OVER = "elrun: the job's time is up (--timeout 2); none of its workers is left\n"


def test_workers_get_their_shutdown_time(elrun, script, tmp_path):
    """They are asked to end as by SIGTERM; the report says why."""
    job = elrun("--timeout", 2, "--report", "r.json", "--nproc-per-node", 2, script(SAVES))

    code, out, err = job.finish()

    report = json.loads((tmp_path / "r.json").read_text())
    assert (124, "saved\nsaved\n") == (code, out)
    assert err.endswith(OVER)
    assert ("stopped", 124, "the job's time is up (--timeout 2)") == (
        report["state"],
        report["exit_code"],
        report["reason"],
    )


def test_workers_that_do_not_end_are_killed(elrun, script):
    """After ``--shutdown-timeout``, of which a line tells before."""
    code, _, err = elrun("--timeout", 2, "--shutdown-timeout", 2, script(DEAF)).finish()

    assert 124 == code
    assert "elrun: the job's time is up (--timeout 2): the workers have 2 s to end" in err
    assert "killed: rank 0: pid " in err


def test_a_ctrl_c_after_the_time_kills_at_once(elrun, script):
    """As it does after any signal."""
    text = DEAF.replace("signal.SIG_IGN", "lambda *_: print('asked', flush=True)")
    job = elrun("--timeout", 2, "--shutdown-timeout", 300, script(text))
    job.wait_for_line("asked")

    def has_ended():
        job.signal(signal.SIGINT)  # one that comes at once counts as none
        return job.process.poll() is not None

    until(has_ended)
    assert 124 == job.finish()[0]


def test_a_job_that_ends_before_has_its_own_code(elrun, script):
    """Also one with all the time there is."""
    codes = [
        elrun("--timeout", limit, script("raise SystemExit(3)")).finish()[0]
        for limit in (3600, "inf", 1e12)
    ]

    assert [3] * 3 == codes


def test_the_wait_for_nodes_counts(elrun, script, vacant_endpoint):
    """Nothing was started yet."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    code, _, err = elrun("--timeout", 2, *meeting, "--rdzv-id", "job", script(SAVES)).finish()

    assert (124, True) == (code, err.endswith(OVER))


def test_restarts_and_their_pauses_count(elrun, script):
    """The limit is the job's, not an attempt's."""
    options = ("--max-restarts", 9, "--restart-delay", 300)
    code, _, err = elrun("--timeout", 2, *options, script("raise SystemExit(3)")).finish()

    assert (124, True) == (code, err.endswith(OVER))


def test_all_nodes_end(elrun, script, vacant_endpoint):
    """Also those that have no limit, or a later one."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    conf = (*meeting, "--rdzv-id", "job", "--max-restarts", 3)
    path = script(SAVES)
    jobs = [elrun("--timeout", 6, *conf, path), elrun(*conf, path)]

    ends = [job.finish() for job in jobs]

    assert [124, 124] == [code for code, *_ in ends], ends
    assert ["saved\n"] * 2 == [out for _, out, _ in ends]
    assert all("the job's time is up (--timeout 6)" in err for *_, err in ends)
