"""`elrun logs` without log files, of attempts that are over and of runs that have ended."""

import os
import signal
import subprocess
import sys

import pytest
from job_kit import until
from watching_kit import WAITS, Watching

PRINTS = """
import os, select
rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
os.write(2, f"rank {rank} in attempt {attempt}\\n".encode())
os.write(1, b"ready\\n")
while not os.path.exists("fail" + attempt):
    select.select([], [], [], 0.05)
os.write(2, f"rank {rank} can't go on\\n".encode())
os._exit(7)
"""

# Else the first one that ends may have the others stopped before they have said anything.
WHEN_ALL_HAVE_SPOKEN = """
open(f"spoken {attempt} {rank}", "w").close()
while not all(os.path.exists(f"spoken {attempt} {each}") for each in (0, 1)):
    select.select([], [], [], 0.01)
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def has_report(watching):
    return bool([*watching.folder.glob("*/report.json")])


def test_a_stopped_job_s_last_words_are_shown(watching, script):
    """Of all its ranks, though none has failed."""
    job = watching.start("--standalone", "--nproc-per-node", 2, "--rdzv-id", "j", script(WAITS))
    until(lambda: has_report(watching))
    job.signal(signal.SIGTERM)
    job.finish()

    done = watching.run("logs", "j")
    one = watching.run("logs", "j", "--rank", 1, "--grep", "is ready")

    title = "==> attempt 0, rank {}, its last words <==\nrank {} is ready\n"
    both = "\n".join(title.format(rank, rank) for rank in (0, 1))
    assert (0, both) == (done.returncode, done.stdout)
    assert (0, title.format(1, 1)) == (one.returncode, one.stdout)


def test_words_of_the_attempt_before_are_shown_while_the_job_runs_and_later(
    watching, script, tmp_path
):
    """Why it restarted is what one wants to know."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "again")
    job = watching.start(*options, script(PRINTS), ready=2)
    until(lambda: has_report(watching))
    (tmp_path / "fail0").touch()
    for _ in range(2):
        job.wait_for_line("ready")
    until(lambda: "attempt 1" in watching.run("logs").stdout)

    during = watching.run("logs").stdout
    (tmp_path / "fail1").touch()
    code = job.finish()[0]
    after = watching.run("logs", "again", "--merge").stdout

    assert 7 == code
    assert "==> attempt 0, rank 0, its last words <==\nrank 0 in attempt 0\n" in during
    assert "==> rank 1, its last words <==\nrank 1 in attempt 1\n" in during
    assert "can't go on\n" in during.partition("==> rank 1")[0]
    for line in ("[0]: rank 0 in attempt 0", "[1]: rank 1 in attempt 1"):
        assert f"{line}\n" in after
    assert "can't go on\n" in after.partition("attempt 1")[2]


@pytest.mark.parametrize("last_code", [0, 7])
def test_words_of_a_first_attempt_of_a_moment_are_kept(watching, script, tmp_path, last_code):
    """Where all attempts are short, nothing is written before the end of the last one."""
    (tmp_path / "fail0").touch()
    (tmp_path / "fail1").touch()
    end = WHEN_ALL_HAVE_SPOKEN + f"os._exit(7 if attempt == '0' else {last_code})"
    program = script(PRINTS.replace("os._exit(7)", end))
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "short")
    code = watching._elrun(*options, program, env=watching.env).finish()[0]

    words = watching.run("logs", "short").stdout

    assert last_code == code
    assert "rank 0 in attempt 0\nrank 0 can't go on\n" in words.partition("==> attempt 1")[0]
    assert "rank 0 in attempt 1\nrank 0 can't go on\n" in words.partition("==> attempt 1")[2]


def test_a_job_that_fails_at_once_shows_its_words(watching, script, tmp_path):
    """Before there is a control socket."""
    (tmp_path / "fail0").touch()
    job = watching._elrun("--rdzv-id", "short", script(PRINTS), env=watching.env)
    code = job.finish()[0]

    done = watching.run("logs", "short")

    assert (7, 0) == (code, done.returncode), done
    assert "rank 0 in attempt 0\nrank 0 can't go on\n" in done.stdout


def test_without_history_the_report_s_words_are_shown(watching, script, tmp_path):
    """Those of ranks that have failed."""
    (tmp_path / "fail0").touch()
    job = watching._elrun("--no-history", "--rdzv-id", "short", script(PRINTS), env=watching.env)
    job.finish()

    done = watching.run("logs", "short")

    assert [] == [*watching.folder.glob("*/output.json")]
    assert (0, True) == (done.returncode, "rank 0 can't go on" in done.stdout), done


@pytest.mark.parametrize("end", ["sys.exit(3)", "ctypes.string_at(0)", "os._exit(3)"])
@pytest.mark.parametrize("options", [[], ["--no-history"]], ids=["history", "none"])
def test_the_hook_s_stack_is_none_of_a_rank_s_words(watching, script, end, options):
    """The report has it, and the rank has printed nothing."""
    program = script(f"import ctypes, os, sys\n{end}")
    env = watching.env | {"PYTHONFAULTHANDLER": ""}
    watching._elrun(*options, "--rdzv-id", "mute", program, env=env).finish()

    done = watching.run("logs", "mute")

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n")), done
    assert "nothing that was printed is kept of mute (script.py, agent " in done.stderr


@pytest.mark.parametrize("broken", ["{", "[]", '{"attempts": [{"attempt": "x", "ranks": 1}]}'])
def test_a_broken_file_of_words_is_passed_over(watching, script, tmp_path, broken):
    """The report has some, too."""
    (tmp_path / "fail0").touch()
    watching._elrun("--rdzv-id", "short", script(PRINTS), env=watching.env).finish()
    (path,) = watching.folder.glob("*/output.json")
    path.write_text(broken)

    done = watching.run("logs", "short")

    assert (0, True) == (done.returncode, "rank 0 can't go on" in done.stdout), done


LAST_ONE = f"{WAITS}os.write(2, b'the very last words\\n')"


def test_a_follower_sees_what_was_printed_last(watching, script, tmp_path):
    """Though the agent ends before it is asked again."""
    job = watching.start("--standalone", "--rdzv-id", "f", script(LAST_ONE))
    until(lambda: has_report(watching))
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "logs", "-f"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **watching.env},
    ) as follow:
        until(lambda: "is ready" in follow.stdout.readline())
        (tmp_path / "go").touch()
        rest = follow.stdout.read()

    assert (0, 0) == (job.finish()[0], follow.returncode)
    assert "the very last words\n" == rest


FAILS_AT_ONCE = """
import os, select
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
os.write(2, f"attempt {attempt} begins".encode())
while not os.path.exists("seen" + attempt):
    select.select([], [], [], 0.05)
os._exit(3)
"""


def test_a_follower_sees_each_attempt_of_a_job_that_fails_in_the_same_way(
    watching, script, tmp_path
):
    """As many bytes each time; each is a line of its own, though none has an end."""
    options = ("--max-restarts", 4, "--rdzv-id", "loop")
    job = watching.start("--standalone", *options, script(FAILS_AT_ONCE), ready=0)
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "logs", "--follow"],
        stdout=subprocess.PIPE,
        env={**os.environ, **watching.env},
    ) as follow:
        seen = b""
        for attempt in range(5):
            while f"attempt {attempt} begins".encode() not in seen:
                piece = os.read(follow.stdout.fileno(), 4096)
                assert piece, seen
                seen += piece
            (tmp_path / f"seen{attempt}").touch()
        seen += follow.stdout.read()

    assert (3, 0) == (job.finish()[0], follow.returncode)
    assert [f"attempt {attempt} begins" for attempt in range(5)] == seen.decode().splitlines()[1:]


BAR = """
import os, select
rank = os.environ["RANK"]
def shown(step):
    os.write(2, f"\\r{rank} is at {step}%".encode())
    while not os.path.exists(f"go{step}"):
        select.select([], [], [], 0.05)
shown(1)
shown(2)
"""


@pytest.mark.parametrize("options", [[], ["--tee", 3, "--log-dir", "logs"]], ids=["kept", "files"])
def test_a_follower_sees_a_progress_bar_as_it_goes_on(watching, script, tmp_path, options):
    """It has no newline before its end, maybe hours later."""
    job = watching.start("--standalone", *options, "--rdzv-id", "bar", script(BAR), ready=0)
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "logs", "--follow", "--merge"],
        stdout=subprocess.PIPE,
        env={**os.environ, **watching.env},
    ) as follow:
        seen = b""
        for step in (1, 2):
            while f"[0]: 0 is at {step}%".encode() not in seen:
                piece = os.read(follow.stdout.fileno(), 4096)
                assert piece, seen
                seen += piece
            (tmp_path / f"go{step}").touch()
        seen += follow.stdout.read()

    assert (0, 0) == (job.finish()[0], follow.returncode)
    assert seen.endswith(b"2%\n")


def test_what_elrun_never_saw_is_one_sentence(watching, script):
    """It names the options that keep it."""
    env = {"ELRUN_KEEP_STDERR": "0"}
    job = watching.start("--standalone", "--rdzv-id", "gone", script(WAITS), env=env)
    until(lambda: has_report(watching))
    job.signal(signal.SIGTERM)
    job.finish()

    done = watching.run("logs", "gone")

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "nothing that was printed is kept of gone (script.py, agent " in done.stderr
