"""Jobs whose standard streams are not as they should be: without a reader, or closed."""

import os
import subprocess
import sys

import pytest
from job_kit import until

pytestmark = pytest.mark.integration

COUNT = """
import sys
for number in range(20000):
    print(number, flush=True)
print("last", file=sys.stderr)
sys.exit(3)
"""
PRINT_MUCH = """
for number in range(20000):
    print(number, "." * 100, flush=True)
open("saved", "w").close()
"""
ASK = """
print("hello", input("name? "))
"""
SHOW_STREAMS = """
import os
with open("streams", "a") as file:
    print([os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)], file=file)
"""


@pytest.fixture(name="shell")
def _shell(tmp_path, script):
    """Run a shell's command, in which ``$elrun`` and ``$script`` stand for themselves."""

    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "SLURM_"))}

    def run(command, program):
        return subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**variables, "elrun": f"{sys.executable} -m elrun", "script": script(program)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_reader_that_has_enough_costs_no_worker_and_no_log(shell, tmp_path):
    """``elrun --tee 3 … | head``: the job goes on to its own end, and the files have it all."""
    done = shell("$elrun --tee 3 --log-dir logs $script | head -1; exit $PIPESTATUS", COUNT)

    (log,) = tmp_path.glob("logs/*/attempt_0/0/stdout.log")
    assert (3, "[default0]:0\n") == (done.returncode, done.stdout)
    assert [*map(str, range(20000))] == log.read_text().splitlines()
    assert [] == [line for line in done.stderr.splitlines() if "annot write" in line]
    assert "[default0]:last" in done.stderr.splitlines()


def test_a_console_that_nobody_reads_stops_no_worker(elrun, script, tmp_path):
    """Its log file takes all, and the console shows all once somebody reads it."""
    job = elrun("--tee", 1, "--log-dir", "logs", script(PRINT_MUCH))
    until((tmp_path / "saved").exists)
    code, out, _ = job.finish()

    expected = [f"{number} {'.' * 100}" for number in range(20000)]
    (log,) = tmp_path.glob("logs/*/attempt_0/0/stdout.log")
    assert (0, expected) == (code, log.read_text().splitlines())
    assert [f"[default0]:{line}" for line in expected] == out.splitlines()


def test_a_prompt_is_shown_before_it_is_answered(elrun, script):
    """``input("…")`` and a debugger wait on the line that they have begun."""
    job = elrun("--tee", 3, script(ASK), stdin=subprocess.PIPE)
    asked = "".join(job.process.stdout.read(1) for _ in range(len("[default0]:name? ")))
    job.process.stdin.write("Ada\n")
    job.process.stdin.flush()

    assert ("[default0]:name? ", (0, "hello Ada\n")) == (asked, job.finish()[:2])


@pytest.mark.parametrize(
    "options", ["", "--preload json", "--run-path", "--run-path --start-method fork"]
)
def test_streams_that_are_closed_lead_nowhere(shell, tmp_path, options):
    """In the agent and its workers; else a pipe of elrun's own would take their numbers."""
    done = shell(f"$elrun {options} $script <&- >&- 2>&-", SHOW_STREAMS)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert f"{['/dev/null'] * 3}\n" == (tmp_path / "streams").read_text()


def test_what_is_closed_is_not_warned_about(shell, tmp_path):
    """``elrun --tee 3 … >&-`` asks for silence; the files have it all."""
    done = shell("$elrun --tee 3 --log-dir logs $script >&-", COUNT)

    (log,) = tmp_path.glob("logs/*/attempt_0/0/stdout.log")
    assert (3, "", 20000) == (done.returncode, done.stdout, len(log.read_text().splitlines()))
    assert [] == [line for line in done.stderr.splitlines() if "annot write" in line]
