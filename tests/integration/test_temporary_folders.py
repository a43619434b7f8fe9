"""What jobs leave in the folder for temporary files: nothing, or what they have named."""

import os
import re
import signal
import subprocess

import pytest

pytestmark = pytest.mark.integration

PRINT = "print('printed', flush=True)"
HANG = f"import signal; {PRINT}; signal.pause()"
FAIL_ONCE = (
    "import os\n"
    "from elrun import record\n"
    f"{PRINT}\n"
    "def main():\n"
    "    if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0': raise ValueError('once')\n"
    "record(main)()\n"
)
FAIL = f"{PRINT}; raise ValueError('x')"
EXIT = f"import os; {PRINT}; os._exit(3)"


@pytest.fixture(name="temporary")
def _temporary(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture(name="run")
def _run(elrun, script, temporary):
    """Start a job whose temporary folder is the test's."""

    def run(program, *options, **variables):
        return elrun(*options, script(program), env={"TMPDIR": str(temporary), **variables})

    return run


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (PRINT, []),
        (PRINT, ["--tee", "3"]),
        (FAIL_ONCE, ["--max-restarts", "1"]),
        (FAIL_ONCE, ["--max-restarts", "1", "--tee", "3", "--nproc-per-node", "2"]),
        (PRINT, ["--run-path", "--tee", "1"]),
    ],
)
def test_a_job_that_succeeds_leaves_nothing(run, temporary, program, options):
    """The console had all that was printed."""
    code, out, _ = run(program, *options).finish()

    assert (0, True, []) == (code, "printed" in out, os.listdir(temporary))


@pytest.mark.parametrize(
    ("program", "options", "code"),
    [
        (PRINT, ["--redirects", "3"], 0),
        (PRINT, ["--tee", "0:1", "--redirects", "0:2,1:1", "--nproc-per-node", "2"], 0),
        (PRINT, ["--tee", "3", "--local-ranks-filter", "0", "--nproc-per-node", "2"], 0),
        (FAIL, ["--tee", "3"], 1),
        (EXIT, ["--tee", "3"], 3),
    ],
)
def test_whatever_stays_is_named(run, temporary, program, options, code):
    """At the start, at the end, or in the report of a failure."""
    done = run(program, *options).finish()

    (folder,) = temporary.iterdir()
    assert code == done[0]
    assert str(folder) in done[2]


def test_a_job_that_was_stopped_leaves_no_records(run, temporary):
    """What its workers raised then was printed, and nothing names the records."""
    program = f"import signal, time; {PRINT}; time.sleep(600)"
    job = run(program)
    job.wait_for_line("printed")
    job.signal(signal.SIGINT)
    code, _, err = job.finish()

    assert (130, [], False) == (code, os.listdir(temporary), "log files" in err)


def test_what_stays_of_a_job_that_was_stopped_is_named(run, temporary):
    """Its last words may be there."""
    job = run(HANG, "--tee", "3")
    job.wait_for_line("[default0]:printed")
    job.signal(signal.SIGTERM)
    code, _, err = job.finish()

    (folder,) = temporary.iterdir()
    assert (143, True) == (code, f"elrun: log files are in {folder}" in err)


@pytest.mark.parametrize(
    ("options", "variables"), [([], {}), ([], {"TORCHELASTIC_ENABLE_FILE_TIMER": "1"})]
)
def test_an_agent_that_is_killed_leaves_nothing(run, temporary, options, variables):
    """Its guardian takes along what nobody needs."""
    job = run(HANG, *options, **variables)
    job.wait_for_line("printed")
    assert [] != os.listdir(temporary)
    job.signal(signal.SIGKILL)
    code, _, _ = job.finish()  # the guardian holds standard error

    assert (-9, []) == (code, os.listdir(temporary))


def test_logs_of_an_agent_that_is_killed_stay_and_are_named(run, temporary):
    """A person may want to know what happened."""
    job = run(HANG, "--tee", "3")
    job.wait_for_line("[default0]:printed")
    job.signal(signal.SIGKILL)
    code, _, err = job.finish()

    (folder,) = temporary.iterdir()
    (log,) = folder.rglob("stdout.log")
    named = re.search("elrun: the agent was killed; log files are in (.+)\n", err)
    assert (-9, "printed\n", str(folder)) == (code, log.read_text(), named and named[1])


def test_logs_of_several_attempts_are_named_once(run, temporary):
    """They are all below one folder."""
    times = "int(os.environ['TORCHELASTIC_RESTART_COUNT'])"
    job = run(f"import os; {times} == 2 or os._exit(3); {HANG}", "--tee", "3", "--max-restarts=2")
    job.wait_for_line("[default0]:printed")
    job.signal(signal.SIGKILL)
    _, _, err = job.finish()

    (folder,) = temporary.iterdir()
    assert 1 == err.count("elrun: the agent was killed;"), err
    assert f"log files are in {folder}\n" in err


def test_logs_that_are_still_written_to_stay(run, temporary, tmp_path):
    """What a worker left running prints into them."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    left = f"read x < {gate}; echo later"
    program = (
        f"import subprocess; subprocess.Popen(['bash', '-c', {left!r}], start_new_session=True)"
    )
    job = run(program, "--tee", "3")
    code = job.process.wait(60)
    (folder,) = temporary.iterdir()
    (log,) = folder.rglob("stdout.log")
    gate.write_text("go on\n")
    with subprocess.Popen(
        ["tail", "-n", "+1", "-f", log], stdout=subprocess.PIPE, text=True
    ) as tail:
        assert "later\n" == tail.stdout.readline()
        tail.kill()

    assert 0 == code
    assert f"elrun: log files are in {folder}" in job.finish()[2]


@pytest.mark.parametrize("options", [["--redirects", "3"], ["--redirects", "0:3,1:1"], []])
def test_a_silent_failure_names_no_file_that_is_gone(run, temporary, options):
    """Whatever the report names is there to be read."""
    program = "import os; os.execvp('sh', ['sh', '-c', 'exit 3'])"
    code, _, err = run(program, "--nproc-per-node", "2", *options).finish()

    named = [path for path in re.findall(r"/\S+", err) if path.endswith((".log", ".json"))]
    assert (3, [], []) == (code, named, os.listdir(temporary))


def test_a_failure_that_only_printed_shows_what_it_printed(run):
    """A program that writes its errors to standard output is no worse off."""
    code, _, err = run(EXIT, "--redirects", "3").finish()

    (named,) = set(re.findall(r"/\S+\.log", err))
    assert 3 == code
    assert "stdout.log" == os.path.basename(named)
    assert os.path.isfile(named)
    assert err.endswith("last lines of rank 0:\nprinted\n")


@pytest.mark.parametrize("folder", ["missing", "/proc", "a file"])
@pytest.mark.parametrize(("program", "code"), [(PRINT, 0), (EXIT, 3)])
def test_a_temporary_folder_that_takes_no_files_is_named_and_not_made(
    elrun, script, tmp_path, folder, program, code
):
    """What is used instead is named, too, and a report of the run is kept there."""
    (tmp_path / "a file").touch()
    wanted = str(tmp_path / folder)  # an absolute one stays as it is
    variables = {"TMPDIR": wanted, "XDG_RUNTIME_DIR": "", "ELRUN_RUN_DIR": ""}

    ended, out, err = elrun(script(program), env=variables).finish()

    assert (code, "printed\n", "missing" in os.listdir(tmp_path)) == (ended, out, False)
    assert f"elrun: TMPDIR={wanted}: " in err
    assert "is used instead\n" in err
    assert "can't be written" not in err
