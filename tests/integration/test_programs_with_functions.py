"""Programs whose functions no new process finds: they are refused before anything starts."""

import pytest

pytestmark = pytest.mark.integration

REPL = """
from elrun import LaunchConfig, elastic_launch

def train(rate):
    return rate

config = LaunchConfig(1, 1, 2, start_method="METHOD")
print(sorted(elastic_launch(config, train)(0.5).values()))
"""
ARGUMENT = """
import json
from elrun import LaunchConfig, elastic_launch

class Rate(float):
    pass

print(elastic_launch(LaunchConfig(1, 1, 1), json.dumps)(Rate(0.5)))
"""
UNDER_GUARD = """
from elrun import LaunchConfig, elastic_launch

if __name__ == "__main__":
    def train():
        return 1

    print(elastic_launch(LaunchConfig(1, 1, 1, start_method="METHOD"), train)())
"""
UNGUARDED = """
from elrun import LaunchConfig, elastic_launch

def train():
    return 1

elastic_launch(LaunchConfig(1, 1, 2, start_method="METHOD"), train)()
"""
CONDITIONAL = """
import os
from elrun import LaunchConfig, elastic_launch

def train():
    return 1

if "RANK" not in os.environ:
    print(elastic_launch(LaunchConfig(1, 1, 1), train)())
"""
SPAWNING = pytest.mark.parametrize("method", ["spawn", "forkserver"])


def refusal_of(job):
    """Return the last line of a program that ended by one exception, and nothing else."""
    code, out, err = job.finish()
    assert (1, "", 1) == (code, out, err.count("Traceback"))
    assert "multiprocessing" not in err
    return err.splitlines()[-1]


@SPAWNING
def test_a_function_of_a_notebook_is_refused(elrun, method):
    """Its main module has no file, as with ``python -c`` and a prompt."""
    job = elrun(command=("-c", REPL.replace("METHOD", method)))

    advice = "give a function from the top level of a module, or start_method='fork'"
    assert (
        "elrun.UsageError: train can't be sent to a new process "
        f"(start_method={method!r}): it is defined in a notebook, or was typed into an "
        f"interpreter; {advice}"
    ) == refusal_of(job)


def test_a_function_of_a_notebook_runs_by_a_fork(elrun):
    """As the sentence says."""
    job = elrun(command=("-c", REPL.replace("METHOD", "fork")))

    assert (0, "[0.5, 0.5]\n", "") == job.finish()


@SPAWNING
def test_a_function_of_a_program_on_standard_input_is_refused(elrun, script, method):
    """It has the name <stdin>, and no file."""
    with script(REPL.replace("METHOD", method)).open() as file:
        job = elrun(command=("-",), stdin=file)

    assert "): the program was read from standard input; give" in refusal_of(job)


def test_an_argument_whose_class_is_a_notebook_s_is_refused(elrun):
    """No new process could restore it."""
    code, out, err = elrun(command=("-c", ARGUMENT)).finish()

    assert (1, "") == (code, out)
    assert "Rate is defined in __main__, which has no file" in err.splitlines()[-1]


@SPAWNING
def test_a_function_under_the_guard_is_refused(elrun, script, method):
    """New processes run the program's top level, and nothing under it."""
    job = elrun(command=(script(UNDER_GUARD.replace("METHOD", method)),))

    assert "): it is defined under if __name__ == '__main__', which does not run there; give" in (
        refusal_of(job)
    )


@SPAWNING
def test_a_launch_at_the_top_of_a_program_is_refused(elrun, script, method):
    """Each worker would launch again."""
    job = elrun(command=(script(UNGUARDED.replace("METHOD", method)),))

    assert (
        "elrun.UsageError: each new process "
        f"(start_method={method!r}) runs this program's top level and would "
        "launch again; launch under \"if __name__ == '__main__':\""
    ) == refusal_of(job)


def test_a_launch_at_the_top_may_fork(elrun, script):
    """Nothing is run again."""
    job = elrun(command=(script(UNGUARDED.replace("METHOD", "fork")),))

    assert 0 == job.finish()[0]


def test_a_launch_under_another_condition_is_the_user_s_affair(elrun, script):
    """Not launching again can be seen to in many ways."""
    job = elrun(command=(script(CONDITIONAL),))

    assert (0, "{0: 1}\n", "") == job.finish()


def test_a_module_run_by_its_name_finds_its_functions(elrun, script, tmp_path):
    """``python -m job``: it is imported by that name; a package's __main__ is not."""
    guarded = UNGUARDED.replace("\nelastic", "\nif __name__ == '__main__':\n    elastic")
    script(guarded.replace("METHOD", "spawn"), "job.py")
    (tmp_path / "pkg").mkdir()
    script(guarded.replace("METHOD", "spawn"), "pkg/__main__.py")

    assert 0 == elrun(command=("-m", "job")).finish()[0]
    assert "): a package's __main__.py is not imported there; give" in refusal_of(
        elrun(command=("-m", "pkg"))
    )
