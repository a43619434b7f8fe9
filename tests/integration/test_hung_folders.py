"""Jobs whose folder for log files is on a file system that does not answer."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from job_kit import until

pytestmark = pytest.mark.integration

WAIT_THEN_FAIL = """
import os, select, sys
while not os.path.exists("go"):
    select.select([], [], [], 0.02)
sys.exit(3)
"""

SAY_THAT_IT_IS_ASKED_TO_END = """
import signal, sys
def end(number, frame):
    print("asked to end", file=sys.stderr, flush=True)
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
print("runs", flush=True)
while True:
    signal.pause()
"""


FAIL_OR_SAY = f"""
import os, sys
if os.environ["RANK"] == "0":
    with open("go") as go:
        go.read()
    sys.exit(3)
{SAY_THAT_IT_IS_ASKED_TO_END}
"""


@pytest.fixture(name="hang")
def _hang():
    """Put a file system over a folder: each call to it waits until the test has ended."""
    mounted = []

    def mount(path):
        path.mkdir(exist_ok=True)
        try:
            fd = os.open("/dev/fuse", os.O_RDWR)
        except OSError:
            pytest.skip("there is no FUSE here")
        options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        command = ["mount", "-i", "-t", "fuse", "-o", options, "elrun-test", path]
        # Nobody reads from the descriptor, so that no request is ever answered.
        if subprocess.run(command, check=False, pass_fds=[fd], capture_output=True).returncode:
            os.close(fd)
            pytest.skip("a file system can't be mounted here")
        mounted.append((fd, path))

    yield mount
    for fd, path in mounted:
        os.close(fd)  # those who still wait get an error
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_log_folder_that_hangs_is_named_and_a_signal_still_ends_the_job(
    elrun, script, tmp_path, hang, number, code
):
    """At the start, where it is made or looked at."""
    hang(tmp_path / "hung")
    job = elrun("--log-dir", "hung/logs", script(""))
    sentence = job.process.stderr.readline()
    job.signal(number)

    assert sentence == (
        "elrun: folders for log files can't be made in 'hung/logs': its file system does not "
        "answer, and the job waits for it\n"
    )
    ended = job.finish()[0]
    assert code == (128 - ended if ended < 0 else ended)  # as a shell tells it


def test_a_restart_whose_log_folder_hangs_can_be_ended(elrun, script, tmp_path, hang):
    """The agent hears the signal while the next attempt's folder is made."""
    job = elrun("--log-dir", "logs", "--max-restarts", 1, script(WAIT_THEN_FAIL))
    until(lambda: list(tmp_path.glob("logs/*/attempt_0/0")))
    (run_folder,) = tmp_path.glob("logs/*")
    hang(run_folder)
    (tmp_path / "go").touch()
    while "folders for log files" not in (line := job.process.stderr.readline()):
        assert line
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]


def test_workers_are_asked_to_end_before_their_error_files_are_waited_for(
    elrun, script, tmp_path, hang
):
    """A file system that does not answer takes nothing of the time in which they save."""
    job = elrun("--log-dir", "logs", script(SAY_THAT_IT_IS_ASKED_TO_END))
    assert "runs\n" == job.process.stdout.readline()
    (run_folder,) = tmp_path.glob("logs/*")
    hang(run_folder)
    job.signal(signal.SIGTERM)
    code, _, said = job.finish()

    lines = [line for line in said.splitlines() if "asked" in line or "does not answer" in line]
    assert (143, "asked to end") == (code, lines[0])
    assert 2 == len(lines)


@pytest.mark.parametrize("options", [["--standalone"], ["--rdzv-backend", "c10d"]])
def test_a_failure_stops_the_others_before_what_it_left_is_waited_for(
    elrun, script, tmp_path, hang, vacant_endpoint, options
):
    """The other workers save while the agent still waits for the error file of the first."""
    if "c10d" in options:
        options = [*options, "--rdzv-endpoint", vacant_endpoint]
    os.mkfifo(tmp_path / "go")
    job = elrun(*options, "--nproc-per-node", 2, "--log-dir", "logs", script(FAIL_OR_SAY))
    job.wait_for_line("runs")
    (run_folder,) = tmp_path.glob("logs/*")
    hang(run_folder)
    (tmp_path / "go").write_text("")
    code, _, said = job.finish()

    lines = [line for line in said.splitlines() if "asked" in line or "does not answer" in line]
    assert (3, "asked to end") == (code, lines[0]), said


def waits_for_file_system(pid):
    """Return whether a thread of a process waits for an answer of a file system by FUSE."""
    places = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            places.append(Path(f"/proc/{pid}/task/{task}/wchan").read_text())
    return any("fuse" in place or place == "request_wait_answer" for place in places)


def test_a_folder_for_runs_that_hangs_holds_up_nothing(elrun, script, tmp_path, hang):
    """The folder of the run is looked for while the workers run; the agent hears a signal."""
    hang(tmp_path / "hung")
    variables = {"ELRUN_RUN_DIR": "", "XDG_RUNTIME_DIR": f"{tmp_path}/hung"}
    job = elrun(script(SAY_THAT_IT_IS_ASKED_TO_END), env=variables)
    job.wait_for_line("runs")
    until(lambda: waits_for_file_system(job.process.pid))

    job.signal(signal.SIGTERM)

    code, _, err = job.finish(60)
    assert (143, True) == (code, "asked to end" in err), err
