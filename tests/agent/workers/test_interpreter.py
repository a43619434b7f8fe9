"""Which commands are Python interpreters that import our hook, and what they run."""

import os
import sys

import pytest
from elrun.agent.workers.interpreter import is_python, program_of

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([PYTHON, "x.py", "-I", "b"], [PYTHON, "x.py"]),
        ([PYTHON, "-u", "x.py", "a"], [PYTHON, "-u", "x.py"]),
        ([PYTHON, "-uB", "-X", "dev", "-Wignore", "-m", "x", "a"], 7),
        ([PYTHON, "-c", "pass", "-c"], [PYTHON, "-c", "pass"]),
        ([PYTHON, "-u", "-", "x.py"], [PYTHON, "-u", "-"]),
    ],
)
def test_a_program_is_what_stands_before_the_arguments(command, expected):
    """Interpreter, harmless options, and a script, a module or a text."""
    whole = command[:expected] if isinstance(expected, int) else expected

    assert whole == program_of(command, os.defpath)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["bash", "-c", "true"], "bash is not a Python interpreter itself"),
        (["no-such-python", "x.py"], "no-such-python is not a Python interpreter itself"),
        ([PYTHON, "-I", "x.py"], "the interpreter's option -I does not go with it"),
        ([PYTHON, "-uS", "x.py"], "the interpreter's option -uS does not go with it"),
        ([PYTHON, "-m"], "the interpreter's option -m does not go with it"),
        ([PYTHON], "the command names neither a script nor a module"),
    ],
)
def test_other_commands_cannot_be_preloaded(command, sentence):
    """An interpreter that ignores PYTHONPATH or ``site`` would run the script at once."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        program_of(command, "/usr/bin:/bin")


def test_an_interpreter_may_be_found_by_its_name(tmp_path):
    """Whatever links there; what matters is the program at the end."""
    (tmp_path / "python").symlink_to(PYTHON)

    assert ["python", "x.py"] == program_of(["python", "x.py"], str(tmp_path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("python", True),
        ("python3", True),
        ("python3.8", True),
        ("python3.14t", True),
        ("python2.7", False),
        ("python3.7", False),
        ("pypy3", False),
    ],
)
def test_an_interpreter_is_known_by_the_name_of_its_file(tmp_path, name, expected):
    """Whatever it is called by; an older one can't read our hook."""
    (tmp_path / name).write_bytes(b"\x7fELF")
    (tmp_path / name).chmod(0o755)
    (tmp_path / "interpreter").symlink_to(name)

    assert expected is is_python("interpreter", str(tmp_path))
