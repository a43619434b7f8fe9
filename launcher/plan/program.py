"""What a worker runs, from SCRIPT and the options that say what it is, checked beforehand."""

from __future__ import annotations

import itertools
import os

from ...rendezvous.api.parameters import quoted
from ...rendezvous.named_tuple import NamedTuple
from ..commandline.arguments import Given, Refusal, nearest_word
from ..commandline.converters import is_module_name
from ..commandline.environment import Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_OPTIONS_OF_OTHERS = ("help", "version")  # of other programs they are verbs
_DASHES = ("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212")


_ELF = b"\x7fELF"
_MOST_OF_A_FIRST_LINE = 256
_MOST_ENTRIES = 1_000


class Program(NamedTuple):
    """What a worker runs.

    Args:
        entrypoint: A command, or a function.
        is_on_input: Whether the script stands on standard input.
    """

    entrypoint: Callable[..., Any] | str
    args: list[str]
    is_on_input: bool = False


def choose_program(given: Given, environment: Environment, *, is_checked: bool = True) -> Program:
    """Return what a worker runs.

    Args:
        given: The options and SCRIPT.
        environment: For the interpreter and the search path.
        is_checked: Whether it must be there.

    Raises:
        Refusal: The options contradict each other, or there is no such program.
    """
    script, *args = given.command
    _check_options(given)
    if is_checked:
        _check_program(given, environment)
    if given["run_path"]:
        from .run_path import run_script_path  # few jobs

        return Program(run_script_path, [script, *args])
    if given["no_python"]:
        return Program(script, args)
    if given["module"]:
        return Program(environment.python, ["-u", "-m", script, *args])
    is_on_input = script in _STANDARD_INPUT
    if script.startswith("-") and not is_on_input:
        # After a "--" of ours the interpreter would read options.
        script = os.path.join(os.curdir, script)
    return Program(environment.python, ["-u", script, *args], is_on_input)


def _check_options(given: Given) -> None:
    for other in ("no_python", "run_path"):
        if given["module"] and given[other]:
            raise Refusal(
                f"{given.said('module')} and {given.said(other)} exclude each other; give one"
            )
    named = [name for name in given["preload"] if name != "auto"]  # which learns nothing there
    if given["no_python"] and named and not given["run_path"]:
        raise Refusal(
            f"{given.said('no_python')} and {given.said('preload')} exclude each other: only "
            "Python scripts can be preloaded"
        )


def _check_program(given: Given, environment: Environment) -> None:
    script = given.command[0]
    if not script:
        raise Refusal("SCRIPT is empty; say what to run")
    if given["run_path"]:
        _check_descriptor(script, f"leave {given.said('run_path')} out, and ")
        check_script(script, environment.search_path)
        return
    if given["no_python"]:
        if script not in _STANDARD_INPUT:  # which a program inherits
            _check_descriptor(script, f"leave {given.said('no_python')} out, and ")
        check_program(script, environment.search_path)
        return
    if "PYTHON_EXEC" in environment.variables:
        check_program(environment.python, environment.search_path, said="PYTHON_EXEC=")
    if given["module"]:
        check_module(script, given.said("module"))
    elif script not in _STANDARD_INPUT:
        check_script(script, environment.search_path)
        _check_descriptor(script)


def _check_descriptor(script: str, first: str = "") -> None:
    if script.startswith(_DESCRIPTORS):
        raise Refusal(
            f"{quoted(script)} is open in elrun alone, and workers don't inherit it; {first}give "
            "-, and a Python script on standard input"
        )


def check_script(path: str, search_path: str) -> None:
    """Make sure that Python can run a file, or a folder with a ``__main__.py``.

    Args:
        search_path: Where programs are that may have been meant instead.

    Raises:
        Refusal: It can't; the sentence names the path.
    """
    if os.path.isdir(path):
        if not os.path.isfile(os.path.join(path, "__main__.py")):
            raise Refusal(f"{quoted(path)} is a folder without a __main__.py; give a script in it")
    elif not os.path.exists(path):
        _refuse_unreachable(path, quoted(path))
        _refuse_dangling_link(path)
        raise Refusal(f"{quoted(path)}: there is no such script{_instead_of(path, search_path)}")
    elif not os.access(path, os.R_OK):
        raise Refusal(f"{quoted(path)} can't be read; check its permissions")
    elif _is_no_python(path):
        raise Refusal(f"{quoted(path)} is no Python script; give --no-python to run it as it is")


def check_module(name: str, option: str) -> None:
    """Refuse a script for a module's name: Python would run the script, and fail then.

    Args:
        option: The option that says it is one, as the user gave it.

    Raises:
        Refusal: It is a path; the sentence names it.
    """
    if name == "-":
        raise Refusal(f"{option} -: standard input holds a script, no module; leave {option} out")
    bare = name.removesuffix(".py")
    is_path = "/" in name or (name != bare and not os.path.isdir(bare))
    if is_path and os.path.isfile(name):
        raise Refusal(f"{option} {quoted(name)}: this is a file, no module; leave {option} out")


def check_program(name: str, search_path: str, said: str = "") -> None:
    """Make sure that the system can run a program.

    Args:
        name: A path, or a name to look for.
        search_path: Where to look for a name: folders, separated by colons.
        said: What stands before the name in a message.

    Raises:
        Refusal: It can't; the sentence names the program and what to do.
    """
    shown = said + quoted(name)
    if "/" not in name:
        if _is_in(search_path, name):
            return
        hint = f"; write ./{name} for the one in this folder" if os.path.exists(name) else ""
        raise Refusal(f"{shown}: there is no such program in PATH{hint or '; give its path'}")
    if os.path.isdir(name):
        raise Refusal(f"{shown} is a folder; give a program in it")
    if not os.path.exists(name):
        _refuse_unreachable(name, shown)
        _refuse_dangling_link(name)
        raise Refusal(f"{shown}: there is no such program; give its path")
    if not os.access(name, os.X_OK):
        raise Refusal(f"{shown} is not executable; make it so with chmod +x")


def _refuse_unreachable(path: str, shown: str) -> None:
    """Refuse a path at which the system doesn't say whether there is something."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # there is nothing
        return
    except PermissionError:
        hint = "check the permissions of the folders that lead there"
        raise Refusal(f"{shown} can't be reached: Permission denied; {hint}") from None
    except OSError as error:
        raise Refusal(f"{shown} can't be reached: {error.strerror}") from error


def _refuse_dangling_link(path: str) -> None:
    """Refuse a link at whose end there is nothing: the name is right, the place it names is not."""
    if os.path.islink(path):
        target = quoted(os.path.realpath(path))
        raise Refusal(f"{quoted(path)} is a link to {target}, which isn't there; mend the link")


def _is_no_python(path: str) -> bool:
    """Return whether a file looks like another kind of program, and Python can't read it."""
    if not os.path.isfile(path):  # a pipe can be read but once
        return False
    with open(path, "rb") as file:
        begin = file.read(_MOST_OF_A_FIRST_LINE)
        if begin.startswith(_ELF):
            return True
        first_line = begin.partition(b"\n")[0]
        is_foreign = first_line.startswith(b"#!") and b"python" not in first_line
        if not is_foreign and not path.endswith((".sh", ".bash")):
            return False
        text = begin + file.read()
    if b"\0" in text:  # an archive that begins with a script
        return False
    try:  # it may be for both: pip writes such scripts where the path to Python is long
        compile(text, path, "exec", dont_inherit=True)
    except SyntaxError:
        return True
    return False


def _is_in(search_path: str, name: str) -> bool:
    folders = (folder or "." for folder in search_path.split(os.pathsep))
    return any(_is_executable(os.path.join(folder, name)) for folder in folders)


def _is_executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _instead_of(path: str, search_path: str) -> str:
    """Say what to give instead of a path at which there is nothing."""
    if path[:1] in _DASHES:
        return "; an option begins with two hyphens (--), and this is a dash"
    folder, slash, name = path.rpartition("/")
    if os.path.isfile(f"{path}.py"):
        return f"; did you mean {path}.py?"
    if "/" not in path and not path.endswith(".py"):
        if path in _OPTIONS_OF_OTHERS:
            return f"; did you mean `elrun --{path}`?"
        if verb := _verb_meant(path):
            return f"; did you mean `elrun {verb}`?"
        guesses = ["a module (-m)"] if is_module_name(path) else []
        guesses += ["a program (--no-python)"] if _is_in(search_path, path) else []
        if guesses:
            return f"; is it {' or '.join(guesses)}?"
    bare = name
    while bare.endswith(".py"):
        bare = bare.removesuffix(".py")
    match = nearest_word(bare, _scripts_in(folder + slash or os.curdir))
    return f"; did you mean {folder}{slash}{match}.py?" if match else "; give its path"


def _scripts_in(folder: str) -> list[str]:
    """Return the scripts among a folder's first entries: a folder of data may have millions.

    They come without their ending, which makes short names look alike.
    """
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in itertools.islice(entries, _MOST_ENTRIES)]
    except OSError:
        return []
    return [each.removesuffix(".py") for each in names if each.endswith(".py")]


def _verb_meant(word: str) -> str:
    """Return the verb that a word is but for a slip, or in another place than the first."""
    from ..commandline.verbs import VERBS  # seldom

    return nearest_word(word.lower(), VERBS)


def get_entrypoint_name(entrypoint: Callable[..., Any] | str | None, args: list[Any]) -> str:
    """Return what people call the thing that is run, as ``name_of`` says it; "" for nothing."""
    from ...agent.workers.worker import name_of  # a verb runs nothing

    return "" if entrypoint is None else name_of(entrypoint, args)
