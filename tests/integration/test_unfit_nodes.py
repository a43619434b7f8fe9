"""``--health-check COMMAND``: a node on which it fails does not take part, and is named."""

import json
import os
import signal

import jsonschema
import pytest
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

RANKS = "import os; print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], flush=True)"
FAILS_ONCE = """
import os, time
print("attempt", os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["WORLD_SIZE"], flush=True)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if os.environ["RANK"] == "0":
        raise SystemExit(9)
    time.sleep(600)
"""


@pytest.fixture(name="meeting")
def _meeting(vacant_endpoint):
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={vacant_endpoint}", "--rdzv-id=job")
    return (*meeting, "--rdzv-conf=last_call_timeout=1")


def test_a_fit_node_runs_the_job_and_says_nothing(elrun, script):
    """Whatever the check prints."""
    ended = elrun("--health-check", "echo fine; exit 0", script(RANKS)).finish()

    assert (0, "rank 0 of 1\n", "") == ended


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("echo no GPU >&2; exit 3", "ended with exit code 3: no GPU"),
        ("kill -9 $$", "ended with exit code 137"),
        ("nonesuch", "ended with exit code 127: "),
        ("sleep 600 & sleep 600", "did not end within 2 s (--health-check-timeout)"),
        ("yes; true", "did not end within 2 s (--health-check-timeout): y"),
    ],
)
def test_a_node_on_which_it_fails_runs_nothing(elrun, script, tmp_path, command, how):
    """The sentence says how; the report has the end of what was printed."""
    options = ("--health-check", command, "--health-check-timeout", 2, "--report", "r.json")
    code, out, err = elrun(*options, script(RANKS)).finish()

    report = json.loads((tmp_path / "r.json").read_text())
    assert (69, "") == (code, out)
    assert f"elrun: this node does not take part: the health check {command!r} {how}" in err
    assert ("unfit node", 69) == (report["state"], report["exit_code"])
    assert how in report["reason"]
    assert 10_000 > len(report["reason"])


def test_a_report_of_an_unfit_node_fits_its_schema(elrun, script, tmp_path):
    """As any other."""
    elrun("--health-check=false", "--report=r.json", script(RANKS)).finish()

    with open(os.path.join(os.path.dirname(__file__), "../../docs/report.schema.json")) as file:
        jsonschema.validate(json.loads((tmp_path / "r.json").read_text()), json.load(file))


def test_a_signal_ends_the_check_and_what_it_has_started(elrun, script, tmp_path):
    """Nothing is left of it."""
    command = "sleep 600 & echo $! > child; echo $$ > self; sleep 600"
    job = elrun("--health-check", command, "--health-check-timeout", 600, script(RANKS))
    until(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text().strip())
    job.signal(signal.SIGTERM)

    code, out, _ = job.finish()

    pids = [int((tmp_path / name).read_text()) for name in ("child", "self")]
    assert (143, "") == (code, out)
    assert [] == [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]


def test_a_killed_agent_takes_the_check_along(elrun, script, tmp_path):
    """Its guardian does."""
    command = "echo $$ > self; sleep 600"
    job = elrun("--health-check", command, "--health-check-timeout", 600, script(RANKS))
    until(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text().strip())
    pid = int((tmp_path / "self").read_text())
    job.signal(signal.SIGKILL)
    job.finish()

    until(lambda: not os.path.exists(f"/proc/{pid}/exe"))


def test_another_node_steps_in(elrun, script, vacant_endpoint):
    """The job has the nodes that it needs."""
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={vacant_endpoint}", "--rdzv-id=job")
    options = ("--nnodes=2", *meeting, "--rdzv-conf=last_call_timeout=60")
    path = script(RANKS)
    first = elrun(*options, "--health-check", "true", path)
    until(lambda: can_connect(vacant_endpoint))  # it hosts the store
    unfit = elrun(*options, "--health-check", "echo bad RAM; false", path)
    assert 69 == unfit.finish()[0]
    second = elrun(*options, "--health-check", "true", path)

    ends = [job.finish() for job in (first, second)]

    assert [0, 0] == [code for code, *_ in ends], ends
    assert ["rank 0 of 2\n", "rank 1 of 2\n"] == sorted(out for _, out, _ in ends)


def test_too_few_fit_nodes_end_with_the_reason(elrun, script, meeting):
    """On each node."""
    options = ("--nnodes=2", *meeting)
    path = script(RANKS)
    fit = elrun(*options, path)
    unfit = elrun(*options, "--health-check", "echo bad RAM; false", path)

    code, out, err = fit.finish()

    assert (75, "", 69) == (code, out, unfit.finish()[0])
    assert "can't take part: the health check 'echo bad RAM; false' ended with exit code 1" in err


def test_it_runs_before_a_restart_too(elrun, script, vacant_endpoint):
    """A node may have become unfit; the others go on without it."""
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={vacant_endpoint}", "--rdzv-id=job")
    conf = ("--rdzv-conf=last_call_timeout=30", "--max-restarts=2")
    options = ("--nnodes=1:2", *meeting, *conf)
    path = script(FAILS_ONCE)
    once = "test ! -e seen && touch seen"
    first = elrun(*options, path)
    until(lambda: can_connect(vacant_endpoint))  # it hosts the store
    jobs = [first, elrun(*options, "--health-check", once, path)]

    (code, out, err), (unfit, *_) = ends = [job.finish() for job in jobs]

    assert (0, 69) == (code, unfit), ends
    assert "attempt 0 2" in out
    assert "attempt 1 1" in out
    assert err
