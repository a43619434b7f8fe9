"""Workers that leave no exception: the summary has the last lines of their output."""

import os
import subprocess
import sys

import pytest

TERMINATES = """
echo "terminate called after throwing an instance of 'std::runtime_error'" >&2
echo "  what():  no such shard" >&2
kill -ABRT $$
"""
OTHERS = {
    "a line of bash": (
        "echo starting >&2; no-such-tool; exit $?",
        ["exited with code 127", "no-such-tool: command not found"],
    ),
    "an unbound variable": ("set -u; cat $DATA; echo never", ["DATA: unbound variable"]),
    "a fatal error, and goodbyes": (
        "echo 'FATAL: no license' >&2; echo bye >&2; exit 4",
        ["exited with code 4", "FATAL: no license"],
    ),
    "an exception of C++": (TERMINATES, ["by SIGABRT", "std::runtime_error: no such shard"]),
    "a traceback of another program": (
        f"{sys.executable} -c 'raise ValueError(\"no such shard\")'; echo saving >&2; exit 5",
        ["exited with code 5", "ValueError: no such shard", "saving"],
    ),
}
STREAMS = {"teed": ("--tee", "3"), "redirected": ("--redirects", "3"), "in a pipe": ()}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("stream", STREAMS)
def test_the_last_words_of_other_programs_are_found(elrun, name, stream):
    """In the file of their standard error, or in what the agent has carried on."""
    command, words = OTHERS[name]

    job = elrun("--standalone", *STREAMS[stream], "--no-python", "bash", "-c", command)
    summary = job.finish()[2].partition("elrun: bash failed: ")[2]

    assert [] == [each for each in words if each not in summary]


ON_STDOUT = {
    "a line": ("echo 'FATAL: no license'", "FATAL: no license"),
    "a traceback": (
        f"{sys.executable} -c 'raise ValueError(\"no such shard\")' 2>&1",
        "ValueError: no such shard",
    ),
}


@pytest.mark.parametrize("name", ON_STDOUT)
@pytest.mark.parametrize("stream", ["teed", "redirected"])
def test_words_on_standard_output_count_where_standard_error_has_none(elrun, name, stream):
    """Nearly every program prints something on standard error; the file with the words is named."""
    command, words = ON_STDOUT[name]
    command = f"echo 'loading 7 shards' >&2; echo 'this is slow' >&2; {command}; exit 4"

    job = elrun("--standalone", *STREAMS[stream], "--no-python", "bash", "-c", command)
    summary = job.finish()[2].partition("elrun: bash failed: ")[2]

    assert [] == [each for each in (words, "/stdout.log") if each not in summary]
    assert "stderr.log" not in summary


def test_words_on_standard_error_go_before_those_on_standard_output(elrun):
    """A reason on the one is no reason to look at the other."""
    command = "echo 'FATAL: no license' >&2; echo 'error: none of this counts'; exit 4"

    job = elrun("--standalone", "--tee", "3", "--no-python", "bash", "-c", command)

    assert "\n  FATAL: no license\n" in job.finish()[2]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise SystemExit('no such shard')", "no such shard"),
        (
            "import argparse\nargparse.ArgumentParser(prog='train').parse_args(['--lr'])",
            "train: error: unrecognized arguments: --lr",
        ),
        ("import os, sys\nprint('ERROR: no license', file=sys.stderr)\nos._exit(9)", "no license"),
    ],
)
def test_what_leaves_no_exception_is_told_by_its_last_line(elrun, script, source, words):
    """Where standard error is no terminal."""
    err = elrun("--standalone", script(source)).finish()[2]

    assert words in err.partition("elrun: script.py failed: ")[2]


IN_ORDER = """
import os, sys
for number in range(200):
    os.write(1 + number % 2, b"%d\\n" % number)
sys.exit(3)
"""


@pytest.mark.parametrize("place", ["a pipe", "a file"])
def test_both_streams_keep_their_order_where_they_are_one(script, tmp_path, place):
    """``> log 2>&1``: as without elrun."""
    command = [sys.executable, "-m", "elrun", "--standalone", script(IN_ORDER)]
    if place == "a pipe":
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd=tmp_path
        )
        text = done.stdout.decode()
    else:
        with open(tmp_path / "log", "wb") as log:
            subprocess.run(command, stdout=log, stderr=log, check=False, cwd=tmp_path)
        text = (tmp_path / "log").read_text()

    printed, _, summary = text.partition("elrun: script.py failed: ")
    assert [*map(str, range(200))] == printed.split()
    assert "last lines of rank 0:" in summary


def test_nothing_is_carried_where_nobody_wants_it(elrun, script, tmp_path):
    """``ELRUN_KEEP_STDERR=0``: the worker writes where elrun would."""
    source = "import os; print(*(os.stat(fd).st_ino for fd in (1, 2)))"
    path = script(f"{source}\nopen({str(tmp_path / 'own')!r}, 'w').write('x')")

    inodes = [elrun("--standalone", path, env={"ELRUN_KEEP_STDERR": word}) for word in ("0", "1")]
    ends = [os.fstat(job.process.stderr.fileno()).st_ino for job in inodes]
    found = [int(job.finish()[1].split()[1]) for job in inodes]

    assert [True, False] == [mine == theirs for mine, theirs in zip(ends, found, strict=True)]
