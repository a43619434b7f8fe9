"""A job that runs for a while leaves a history beside its report."""

import os
import signal

import pytest
from elrun.agent.output.history_file import read_history
from job_kit import until

HANG = "import os, signal; os.write(1, b'ready\\n'); signal.pause()"
FAILS_ONCE = """
import os
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck")
"""


@pytest.fixture(name="runs")
def _runs(tmp_path):
    return tmp_path / "runs", {"ELRUN_RUN_DIR": str(tmp_path / "runs")}


def lines_in(folder):
    """Return the lines of the only history; none if there is no such file yet."""
    paths = [*folder.glob("*/history.jsonl")]
    return [line for path in paths for line in read_history(path)]


def of_kind(folder, kind):
    return [line for line in lines_in(folder) if line["kind"] == kind]


def test_a_job_that_runs_is_sampled(elrun, script, runs):
    """Of each rank: CPU time, memory, and what it has printed that elrun carries."""
    folder, env = runs
    job = elrun("--standalone", "--nproc-per-node", 2, "--tee", 3, script(HANG), env=env)
    for _ in range(2):
        job.wait_for_line("[default")
    until(lambda: of_kind(folder, "sample"))

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    sample = of_kind(folder, "sample")[0]
    assert (143, {"0", "1"}) == (code, sample["ranks"].keys()), err
    for cpu_s, memory_bytes, printed in sample["ranks"].values():
        assert (0 <= cpu_s < 60, 1 << 20 < memory_bytes < 1 << 30, 6) == (True, True, printed)
    events = [line["event"] for line in of_kind(folder, "event")]
    assert ["start", "joining", "joined", "running"] == events[:4]
    assert "end" == events[-1]
    (run,) = folder.iterdir()
    assert {"report.json", "history.jsonl"} <= {*os.listdir(run)}


def test_a_killed_agent_leaves_what_it_has_written(elrun, script, runs):
    """Each line is whole, the last one perhaps not."""
    folder, env = runs
    job = elrun("--standalone", script(HANG), env=env)
    job.wait_for_line("ready")
    until(lambda: of_kind(folder, "sample"))

    job.signal(signal.SIGKILL)

    job.finish()
    assert "running" in [line.get("event") for line in lines_in(folder)]


def test_a_restart_stands_in_the_history(elrun, script, runs):
    """Also where the job was over before the history was begun."""
    folder, env = runs
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)

    code, _, err = elrun(*options, script(FAILS_ONCE), env=env).finish()

    events = of_kind(folder, "event")
    assert 0 == code, err
    assert [
        *("start", "joining", "joined", "running", "ended", "failed"),
        *("joining", "joined", "running", "ended", "end"),
    ] == [line["event"] for line in events if line["event"] != "waiting"]
    assert sorted(line["at"] for line in events) == [line["at"] for line in events]
    assert ("restart", "succeeded") == (events[4]["then"], events[-1]["state"])


def test_no_history_is_wanted(elrun, script, runs):
    """The report is kept all the same."""
    folder, env = runs

    elrun("--standalone", "--no-history", script("raise SystemExit(9)"), env=env).finish()

    (run,) = folder.iterdir()
    assert "report.json" in os.listdir(run)
    assert "history.jsonl" not in os.listdir(run)


def test_a_report_elsewhere_has_a_history_too(elrun, script, runs):
    """In the run's folder."""
    folder, env = runs

    elrun("--standalone", "--report", "r.json", script("raise SystemExit(9)"), env=env).finish()

    assert "fail" in [line.get("then") for line in lines_in(folder)]


def test_nodes_tell_of_their_last_beats(elrun, script, runs, vacant_endpoint):
    """How long ago the store took the latest one."""
    folder, env = runs
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    jobs = [elrun(*meeting, "--rdzv-id", "job", script(HANG), env=env) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("ready")
    until(
        lambda: (
            2 == len([each for each in folder.glob("*/*.jsonl") if b"sample" in each.read_bytes()])
        )
    )

    for job in jobs:
        job.signal(signal.SIGTERM)

    for job in jobs:
        job.finish()
    assert all(line["beat_age_s"] < 3_600 for line in of_kind(folder, "sample"))


def test_a_full_disk_ends_the_history_and_nothing_else(elrun, script, small_disk):
    """A line says so."""
    text = "import os\nprint('ready', flush=True)\nos.read(0, 1)"
    job = elrun(
        *("--standalone", "--report", "r.json", script(text)),
        env={"ELRUN_RUN_DIR": str(small_disk)},
        stdin=-1,
    )
    job.wait_for_line("ready")
    until(lambda: [*small_disk.glob("*/history.jsonl")])
    fd = os.open(small_disk / "fill", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, bytes(4096)):
            pass
    except OSError:
        pass
    os.close(fd)
    job.process.stdin.close()
    job.process.stdin = None

    code, _, err = job.finish()

    assert 0 == code
    assert err.count("the history of this run ends here") <= 1, err
    assert "Traceback" not in err
