"""``--report FILE``: what a job did, as JSON that fits its schema."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text())

FAILS_ONCE = """
import os
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck")
"""
HANG = "import signal; print('ready', flush=True); signal.pause()"


def read(path):
    """Return a report that fits the schema."""
    report = json.loads(path.read_text())
    jsonschema.validate(report, SCHEMA)
    return report


def test_a_success_after_a_restart_is_reported(elrun, script, tmp_path):
    """Both attempts, and why the first one ended."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    job = elrun(*options, "--report", "${hostname}.json", script(FAILS_ONCE))

    code, _, err = job.finish()

    (path,) = tmp_path.glob("*.json")
    report = read(path)
    first, second = report["attempts"]
    assert (0, "succeeded", 0, "") == (
        code,
        report["state"],
        report["exit_code"],
        report["reason"],
    ), err
    assert ("restart", "builtins.ValueError", [1]) == (
        first["end"]["then"],
        first["end"]["root"]["exception"],
        [each["rank"] for each in first["failures"]],
    )
    assert ("finish", 1, 2) == (
        second["end"]["then"],
        second["restarts_before"],
        len(second["workers"]),
    )


def test_a_failure_is_reported_with_each_rank(elrun, script, tmp_path):
    """As the summary has it."""
    text = "import os, signal\nif os.environ['RANK'] == '0': signal.pause()\n1 / 0"
    job = elrun("--standalone", "--nproc-per-node", 2, "--report", "r.json", script(text))

    code, _, err = job.finish()

    report = read(tmp_path / "r.json")
    assert (1, "failed", 1) == (code, report["state"], report["exit_code"]), err
    assert "ZeroDivisionError: division by zero" in report["reason"]
    assert [(0, "stopped by elrun"), (1, "failed")] == [
        (rank["global_rank"], rank["state"]) for rank in report["ranks"]
    ]
    assert "1 / 0" in report["root"]["traceback"]


def test_a_report_can_be_read_while_the_job_runs(elrun, script, tmp_path):
    """A stop is reported, too."""
    job = elrun("--standalone", "--report", "r.json", script(HANG))
    job.wait_for_line("ready")
    while not (running := read(tmp_path / "r.json"))["attempts"][-1:]:
        pass

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    report = read(tmp_path / "r.json")
    assert ("running", None) == (running["state"], running["exit_code"])
    assert (143, "stopped", 143) == (code, report["state"], report["exit_code"]), err


def test_nodes_that_do_not_meet_are_reported(elrun, script, tmp_path, vacant_endpoint):
    """There is no attempt then."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    conf = ("--rdzv-id", "job", "--rdzv-conf", "join_timeout=1")
    job = elrun(*meeting, *conf, "--report", "r.json", script(""))

    code, _, err = job.finish()

    report = read(tmp_path / "r.json")
    assert (75, "rendezvous failed", []) == (code, report["state"], report["attempts"]), err
    assert "1 of 2 nodes" in report["reason"]


def test_each_node_reports_the_whole_job_s_cause(elrun, script, tmp_path, vacant_endpoint):
    """A node whose own workers were stopped knows which other one failed."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    text = "import os, signal\nif os.environ['RANK'] == '0': signal.pause()\nraise SystemExit(9)"
    path = script(text)
    jobs = [
        elrun(*meeting, "--rdzv-id", "job", "--node-rank", rank, "--report", f"{rank}.json", path)
        for rank in range(2)
    ]

    codes = [job.finish()[0] for job in jobs]

    reports = [read(tmp_path / f"{rank}.json") for rank in range(2)]
    assert ([9, 9], ["failed"] * 2, [1, 1]) == (
        codes,
        [report["state"] for report in reports],
        [report["root"]["global_rank"] for report in reports],
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nope.py"], "nope.py: there is no such script"),
        (["--nproc-per-node", "two", "script.py"], "--nproc-per-node two: "),
        (["--master-port", "70000", "script.py"], "--master-port 70000"),
        ([], "SCRIPT is missing"),
    ],
)
def test_refused_options_are_reported(elrun, script, tmp_path, options, words):
    """Whoever reads reports sees that the job was never started, and why."""
    script("")
    job = elrun("--standalone", "--report", "r.json", *options)

    code, _, err = job.finish()

    report = read(tmp_path / "r.json")
    assert (2, "refused", 2, True) == (
        code,
        report["state"],
        report["exit_code"],
        words in report["reason"],
    ), err


@pytest.mark.parametrize("path", ["none/r.json", "/dev/null"])
def test_a_report_that_can_not_be_kept_is_a_refusal(elrun, path):
    """A mistake in an option is told before a script that isn't there, and once."""
    code, _, err = elrun("--standalone", "--report", path, "nope.py").finish()

    assert (2, 1, True) == (
        code,
        err.count("\n"),
        err.startswith(f"elrun: --report {path}: it can't be kept: "),
    ), err


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/null", "--report /dev/null: it can't be kept: this is no regular file"),
        ("none/r.json", "--report none/r.json: it can't be kept: there is no folder "),
        (".", "--report .: this is a folder; give the path of a file"),
        ("script.py", "--report script.py: it can't be kept: there is another file"),
    ],
)
def test_a_report_that_can_not_be_kept_is_refused(elrun, script, path, words):
    """Before any worker is started."""
    job = elrun("--standalone", "--report", path, script("print('started')"))

    code, out, err = job.finish()

    assert (2, "", True) == (code, out, words in err), err


def test_a_report_does_not_take_the_place_of_the_job_s_output(elrun, script, tmp_path):
    """``--report /dev/stdout`` would lose what workers print; an earlier report is replaced."""
    path, log = script("print('printed')"), tmp_path / "log"
    command = [sys.executable, "-m", "elrun", "--standalone", "--report"]
    with open(log, "wb") as out:
        code = subprocess.run([*command, "/dev/stdout", path], stdout=out, check=False).returncode
    again = [elrun("--standalone", "--report", "r.json", path).finish()[0] for _ in range(2)]

    assert (2, "", [0, 0]) == (code, log.read_text(), again)


def test_a_report_that_can_be_kept_no_more_costs_the_job_nothing(elrun, script, tmp_path):
    """A line says so."""
    (tmp_path / "reports").mkdir()
    text = "import shutil; shutil.rmtree('reports'); print('done')"
    job = elrun("--standalone", "--report", "reports/r.json", script(text))

    code, out, err = job.finish()

    assert (0, "done\n", 1) == (code, out, err.count("the report can't be written to ")), err


def test_two_agents_of_one_host_do_not_write_one_report(elrun, script, tmp_path):
    """Each would replace the other's; the second one is refused, and says what to do."""
    options = ("--standalone", "--report", "${hostname}.json")
    first = elrun(*options, script(HANG))
    first.wait_for_line("ready")

    code, _, err = elrun(*options, script("")).finish()
    first.signal(signal.SIGTERM)

    assert 2 == code
    assert f"another elrun (pid {first.process.pid}) keeps its report there; add ${{pid}}" in err
    assert 143 == first.finish()[0]
    (path,) = tmp_path.glob("*.json")
    assert "stopped" == read(path)["state"]


def test_the_next_job_may_replace_a_report(elrun, script, tmp_path):
    """Also if something that the job left runs on."""
    left = "import subprocess; subprocess.Popen(['sleep', '5'], start_new_session=True)"
    ends = [elrun("--report", "r.json", script(left)).finish()[0] for _ in range(2)]

    assert ([0, 0], "succeeded") == (ends, read(tmp_path / "r.json")["state"])
