"""What elrun itself says: as JSON (``--log-format json``), and less of it (``--quiet``)."""

import json
import signal

import pytest
from job_kit import until

pytestmark = pytest.mark.integration

FAILS_ONCE = "import os\nif os.environ['TORCHELASTIC_RESTART_COUNT'] == '0': raise ValueError('x')"
HANG = "import signal; print('ready', flush=True); signal.pause()"
FIELDS = ["time", "level", "run", "node", "rank", "message"]


def records_in(err):
    """Return the objects, of which each stands on a line of its own, in any other order."""
    records = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [FIELDS] * len(records) == [list(each) for each in records]
    return records


def test_each_line_is_an_object(elrun, script):
    """A notice, a restart, and how the job failed; the workers' own lines are theirs."""
    options = ("--log-format=json", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "job")
    text = f"{FAILS_ONCE}\nraise SystemExit(3)"
    code, _, err = elrun(*options, script(text)).finish()

    first, *_, last = records = records_in(err)
    assert (3, "info", "error") == (code, first["level"], last["level"])
    assert "OMP_NUM_THREADS=1 for each of the 2 workers" in first["message"]
    assert last["message"].startswith("script.py failed: rank ")
    assert "ended by" in last["message"], "the table"
    (restart,) = [each for each in records if "restarting all workers" in each["message"]]
    assert ("warning", 0) == (restart["level"], restart["rank"])
    assert not [line for line in err.splitlines() if line.startswith("elrun:")]


def test_a_run_that_has_no_name_gets_one(elrun, script):
    """Lines of a job are found by it, once there is one."""
    code, _, err = elrun("--log-format=json", script("raise SystemExit(3)")).finish()

    (record,) = records_in(err)
    assert (3, True, 0) == (code, bool(record["run"]), record["rank"])


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--log-format=json", "none.py"], {}),
        (["--log-format=json", "--nnodes=x", "none.py"], {}),
        (["none.py"], {"PET_LOG_FORMAT": "json"}),
    ],
)
def test_a_refusal_is_an_object(elrun, words, variables):
    """Also one of another option."""
    code, _, err = elrun(*words, env=variables).finish()

    (record,) = records_in(err)
    assert (2, "error", None, None) == (code, record["level"], record["run"], record["rank"])


def test_a_stop_is_an_object(elrun, script):
    """By a signal."""
    job = elrun("--log-format=json", script(HANG))
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)

    code, _, err = job.finish()

    assert 143 == code
    assert "stopped by SIGTERM; none of its workers is left" == records_in(err)[-1]["message"]


def test_quiet_leaves_out_notices(elrun, script):
    """A success says nothing, and a failure is shown whole."""
    options = ("-q", "--nproc-per-node", 2)
    _, _, nothing = elrun(*options, script("")).finish()
    code, _, err = elrun(*options, script("raise SystemExit(3)")).finish()

    assert ("", 3) == (nothing, code)
    assert err.startswith("elrun: script.py failed: rank ")


def test_quiet_tells_of_restarts_and_of_nodes_that_do_not_come(elrun, script, vacant_endpoint):
    """They are failures."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    conf = ("--rdzv-id", "job", "--rdzv-conf", "join_timeout=1")
    _, _, restarted = elrun("-q", "--max-restarts", 1, script(FAILS_ONCE)).finish()
    code, _, err = elrun("-q", *meeting, *conf, script("")).finish()

    assert "restarting all workers (restart 1 of 1)" in restarted
    assert (75, 1) == (code, err.count("elrun: "))


def test_quiet_does_not_say_how_a_stop_goes(elrun, script):
    """But that elrun was stopped."""
    text = "import signal; signal.signal(15, lambda *_: print('asked', flush=True))\n"
    job = elrun("-q", script(text + "print('ready', flush=True)\nwhile True: signal.pause()"))
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)
    job.wait_for_line("asked")

    def has_ended():
        job.signal(signal.SIGINT)
        return job.process.poll() is not None

    until(has_ended)
    code, _, err = job.finish()
    assert 143 == code
    assert "to end" not in err
    assert "elrun: stopped by SIGTERM" in err
