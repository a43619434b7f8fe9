"""A run has a folder of its own, with its report, if there is something to report."""

import contextlib
import json
import os
import signal
import stat
from pathlib import Path

import jsonschema
import pytest
from job_kit import until

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8")
)
FAILS_ONCE = """
import os
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck")
"""
HANG = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture(name="runs")
def _runs(tmp_path):
    """Return the folder of runs, and the environment that names it."""
    return tmp_path / "runs", {"ELRUN_RUN_DIR": str(tmp_path / "runs")}


def fill(path):
    """Write into a file until its file system is full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, bytes(4096)):
            pass
    os.close(fd)


def report_in(folder):
    """Return the report of the only run."""
    (run,) = folder.iterdir()
    report = json.loads((run / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    return run, report


def test_a_short_success_leaves_nothing(elrun, script, runs):
    """There is nothing that anybody would look for."""
    folder, env = runs

    code, _, err = elrun("--standalone", script(""), env=env).finish()

    assert (0, "", False) == (code, err, folder.exists())


def test_a_failure_leaves_its_report(elrun, script, runs):
    """Private to the user, with the agent's process id."""
    folder, env = runs
    job = elrun("--standalone", "--rdzv-id", "job/1", script("raise SystemExit(9)"), env=env)

    code, _, err = job.finish()

    run, report = report_in(folder)
    assert (9, "failed", 9, job.process.pid, 0o700) == (
        code,
        report["state"],
        report["exit_code"],
        report["agent_pid"],
        stat.S_IMODE(run.stat().st_mode),
    ), err
    assert run.name.startswith(f"job_1_{os.uname().nodename}_{job.process.pid}_")
    assert [0] == [each["rank"] for each in report["attempts"][0]["workers"]]


def test_a_success_after_a_restart_leaves_both_attempts(elrun, script, runs):
    """Each with its own workers, although the report is made at the end."""
    folder, env = runs
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)

    code, _, err = elrun(*options, script(FAILS_ONCE), env=env).finish()

    _, report = report_in(folder)
    first, second = report["attempts"]
    pids = [{each["pid"] for each in attempt["workers"]} for attempt in (first, second)]
    assert (0, "succeeded", "restart", set()) == (
        code,
        report["state"],
        first["end"]["then"],
        pids[0] & pids[1],
    ), err
    assert report["began_at"] <= first["began_at"] <= second["began_at"] <= report["ended_at"]


def test_a_job_that_runs_for_a_while_can_be_looked_at(elrun, script, runs):
    """A stop is reported, too."""
    folder, env = runs
    job = elrun("--standalone", script(HANG), env=env)
    job.wait_for_line("ready")
    until(lambda: [*folder.glob("*/report.json")])
    _, running = report_in(folder)

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    _, report = report_in(folder)
    assert ("running", 143, "stopped", 1) == (
        running["state"],
        code,
        report["state"],
        len(running["attempts"][0]["workers"]),
    ), err


def test_a_report_elsewhere_is_one_more(elrun, script, runs, tmp_path):
    """Both say the same."""
    folder, env = runs
    job = elrun("--standalone", "--report", "r.json", script("raise SystemExit(9)"), env=env)

    job.finish()

    assert json.loads((tmp_path / "r.json").read_text()) == report_in(folder)[1]


def test_nodes_that_do_not_meet_are_reported(elrun, script, runs, vacant_endpoint):
    """There is no attempt then."""
    folder, env = runs
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    conf = ("--rdzv-id", "job", "--rdzv-conf", "join_timeout=1")

    code, _, err = elrun(*meeting, *conf, script(""), env=env).finish()

    report = report_in(folder)[1]
    assert (75, "rendezvous failed", []) == (code, report["state"], report["attempts"]), err


def test_no_folder_is_wanted(elrun, script, tmp_path):
    """As `--log-dir /dev/null` wants no log files."""
    env = {"ELRUN_RUN_DIR": "/dev/null", "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    code, _, err = elrun("--standalone", script("raise SystemExit(9)"), env=env).finish()

    assert (9, False) == (code, "report" in err), err
    assert [] == [*tmp_path.glob("elrun*/*.run")]


@pytest.mark.parametrize("trouble", ["a file", "a full disk"])
def test_a_folder_that_can_not_be_had_costs_a_line(elrun, script, tmp_path, request, trouble):
    """The job ends as it would without."""
    if trouble == "a file":
        path = tmp_path / "file"
        path.write_text("")
    else:
        path = request.getfixturevalue("small_disk")
        fill(path / "fill")
    env = {"ELRUN_RUN_DIR": str(path)}

    code, _, err = elrun("--standalone", script("raise SystemExit(9)"), env=env).finish()

    assert (9, 1) == (code, err.count("ELRUN_RUN_DIR")), err
