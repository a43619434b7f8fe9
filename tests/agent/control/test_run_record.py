"""What a run's record says of the program, for each way in which Python is called."""

import os

import pytest
from elrun.agent.workers.worker import name_of, script_of

# What follows "python3", the script, and what people call the job.
CALLS = [
    ("a.py x", "a.py", "a.py"),
    ("-u dir/a.py", "dir/a.py", "a.py"),
    ("-X dev a.py", "a.py", "a.py"),
    ("-Xdev a.py", "a.py", "a.py"),
    ("-W error a.py", "a.py", "a.py"),
    ("-uW error a.py", "a.py", "a.py"),
    ("--check-hash-based-pycs never a.py", "a.py", "a.py"),
    ("-- -a.py", "-a.py", "-a.py"),
    ("-m mod data.csv", "", "mod"),
    ("-mmod data.csv", "", "mod"),
    ("-um mod data.csv", "", "mod"),
    ("-X dev -m mod", "", "mod"),
    ("-c pass data.csv", "", "python3"),
    ("-cpass data.csv", "", "python3"),
    ("- data.csv", "", "<stdin>"),
    ("-X", "", "python3"),
    ("", "", "python3"),
]


@pytest.mark.parametrize(("words", "script", "name"), CALLS)
def test_the_script_is_the_word_that_python_runs(words, script, name):
    """No option's value, and no argument of a module."""
    args = words.split()

    assert (script and os.path.abspath(script), name) == (
        script_of("python3", args),
        os.path.basename(name_of("/usr/bin/python3", args)),
    )


@pytest.mark.parametrize(("program", "script"), [("./worker.sh", "worker.sh"), ("bash", "")])
def test_another_program_is_its_own_script_if_it_is_a_path(program, script):
    """One that is sought in PATH is no file of the job's."""
    assert (script and os.path.abspath(script)) == script_of(program, ["a.py"])


def test_a_function_has_no_script():
    """It has a name."""
    assert ("", "name_of") == (script_of(name_of, []), name_of(name_of, []))
