"""``elrun -``: the script stands on standard input, as with ``python -``."""

import os
import pty
import subprocess

import pytest

pytestmark = pytest.mark.integration

SHOW = """
import os, sys
with open(f"rank{os.environ['RANK']}", "w") as file:
    print(sys.argv, __name__, file=file)
"""
FAIL_ONCE = "import os, sys; sys.exit(3 * (os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'))"


@pytest.fixture(name="run")
def _run(elrun):
    """Run elrun on a script that it is given on standard input; return how it ended."""

    def run(script, *args, **options):
        job = elrun(*args, stdin=subprocess.PIPE, env={"OMP_NUM_THREADS": "1"}, **options)
        out, err = job.process.communicate(script, timeout=60)
        return job.process.returncode, out, err

    return run


def test_each_worker_runs_the_script_on_standard_input(run, tmp_path):
    """All of it, with the arguments that follow; torchrun's workers share one reading."""
    assert (0, "", "") == run(SHOW, "--nproc-per-node", 3, "-", "--lr", "1")
    assert ["['-', '--lr', '1'] __main__\n"] * 3 == [
        (tmp_path / f"rank{rank}").read_text() for rank in range(3)
    ]


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_the_file_of_standard_input_may_be_named(run, name):
    """Each worker opens it anew, as it does with ``-``."""
    script = "import sys; sys.stdout.write('well\\n')"

    assert (0, "well\n" * 2, "") == run(script, "--nproc-per-node", 2, name)


def test_a_restart_runs_the_script_again(run):
    """It was read once, and is kept."""
    code, _, err = run(FAIL_ONCE, "--nproc-per-node", 2, "--max-restarts", 1, "-")

    assert 0 == code
    assert "restart 1 of 1" in err


def test_a_script_on_standard_input_fails_under_its_name(run):
    """As Python calls it in tracebacks."""
    code, _, err = run("raise ValueError('no luck')", "-")

    assert 1 == code
    assert "elrun: <stdin> failed: rank 0 exited with code 1" in err
    assert 'File "<stdin>", line 1' in err


def test_a_script_on_standard_input_may_be_preloaded(run, tmp_path):
    """Each fork reads it from the beginning."""
    code, _, err = run(SHOW, "--preload", "json", "--nproc-per-node", 2, "-")

    assert (0, "") == (code, err)
    assert {"rank0", "rank1"} <= set(os.listdir(tmp_path))


def test_a_large_script_is_read_whole(run):
    """More than a pipe holds at once."""
    padding = "# a comment\n" * 20_000

    assert (0, "end\n", "") == run(f"{padding}print('end')", "-")


def test_a_file_may_be_standard_input(elrun, script):
    """``elrun - < script.py``."""
    with script("import sys; sys.stdout.write('from a file\\n')").open() as file:
        job = elrun("--nproc-per-node", 2, "-", stdin=file, env={"OMP_NUM_THREADS": "1"})
        assert (0, "from a file\n" * 2, "") == job.finish()


def test_a_closed_standard_input_is_refused(elrun):
    """There is no script to run."""
    close = ("sh", "-c", 'exec "$0" "$@" <&-')

    code, out, err = elrun("-", prefix=close).finish()

    expected = "elrun: -: standard input is closed; give a script there, or its path\n"
    assert (2, "", expected) == (code, out, err)


def test_a_terminal_s_script_ends_with_ctrl_d(elrun):
    """A person is told what elrun waits for."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard:
        job = elrun("-", stdin=theirs)
        os.close(theirs)
        assert "elrun: the script is read from this terminal; end it with Ctrl-D\n" == (
            job.process.stderr.readline()
        )
        keyboard.write(b"print('typed')\n\x04")
        assert (0, "typed\n") == job.finish()[:2]


def test_standard_input_that_is_no_script_stays_the_workers(run):
    """A script in a file reads it as ever; a program may have ``-`` as an argument."""
    assert (0, "words", "") == run("words", "--no-python", "cat", "-u", "-")


def test_a_program_that_launches_gets_its_standard_input_back(elrun):
    """``main(["-"])`` returns to a program that goes on."""
    program = (
        "import os; from elrun.launcher import main; before = os.fstat(0).st_ino; main(['-']); "
        "print(before == os.fstat(0).st_ino)"
    )
    job = elrun(command=("-c", program), stdin=subprocess.PIPE)

    out, err = job.process.communicate("print('worker')", timeout=60)

    assert ("worker\nTrue\n", "") == (out, err)
