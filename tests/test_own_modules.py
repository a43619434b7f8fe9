"""elrun finds its own modules as the interpreter would, by a shorter way."""

import importlib
import importlib.util
import os
import py_compile
import subprocess
import sys
from importlib.machinery import PathFinder
from py_compile import PycInvalidationMode

import pytest

import elrun
from elrun.own_modules import OwnModules

PLACES = ["elrun.agent", "elrun.agent.output.lines", "elrun.rendezvous.stores", "elrun.own_modules"]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A folder with a module of one line."""
    (tmp_path / "plank.py").write_text("LENGTH = 1\n")
    return tmp_path


def length_in(folder):
    """Return what a module says that is found in a folder of elrun's."""
    spec = OwnModules().find_spec("elrun.plank", [str(folder)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LENGTH


@pytest.mark.parametrize("name", PLACES)
def test_a_module_is_what_the_interpreter_makes_of_it(name):
    """Its place, its byte code's place and its code."""
    path = importlib.import_module(name.rpartition(".")[0]).__path__

    ours = OwnModules().find_spec(name, path)
    others = PathFinder.find_spec(name, path)

    assert [
        (each.origin, each.cached, each.has_location, each.parent, each.submodule_search_locations)
        for each in (ours, others)
    ] == [
        (
            others.origin,
            others.cached,
            True,
            others.parent,
            others.submodule_search_locations,
        )
    ] * 2
    assert others.loader.get_code(name) == ours.loader.get_code(name)
    assert others.loader.get_source(name) == ours.loader.get_source(name)


def test_a_module_without_byte_code_is_compiled(folder, monkeypatch):
    """And its byte code is kept for the next time, where the interpreter may do that."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    assert [1, True] == [length_in(folder), (folder / "__pycache__").is_dir()]


@pytest.mark.parametrize("mode", PycInvalidationMode)
def test_byte_code_is_taken_as_its_kind_demands(folder, mode):
    """That which is checked by its source's hash, or never, is left to the standard loader."""
    py_compile.compile(str(folder / "plank.py"), doraise=True, invalidation_mode=mode)
    changed = os.stat(folder / "plank.py").st_mtime_ns
    (folder / "plank.py").write_text("LENGTH = 2\n")
    os.utime(folder / "plank.py", ns=(changed, changed))

    is_checked = mode is PycInvalidationMode.CHECKED_HASH

    assert (2 if is_checked else 1) == length_in(folder)


@pytest.mark.parametrize("change", ["time", "size"])
def test_byte_code_of_an_older_source_is_made_anew(folder, change):
    """Whether its time or its size differs."""
    path = folder / "plank.py"
    py_compile.compile(str(path), doraise=True)
    changed = os.stat(path).st_mtime_ns
    path.write_text("LENGTH = 2\n" if change == "time" else "LENGTH = 22\n")
    times = changed + (5_000_000_000 if change == "time" else 0)
    os.utime(path, ns=(times, times))

    assert (2 if change == "time" else 22) == length_in(folder)


def test_byte_code_that_was_made_elsewhere_tells_of_the_place_where_it_is(folder, monkeypatch):
    """``pip install --target`` compiles in a folder of its own: a traceback would name that."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = folder / "plank.py"
    py_compile.compile(str(path), dfile="/elsewhere/plank.py", doraise=True)

    code = OwnModules().find_spec("elrun.plank", [str(folder)]).loader.get_code("elrun.plank")

    assert str(path) == code.co_filename


def test_byte_code_of_which_a_part_is_read_is_read_again(folder, monkeypatch):
    """A file system may give less than it is asked for."""
    py_compile.compile(str(folder / "plank.py"), doraise=True)
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: real(fd, min(size, 20)))

    assert 1 == length_in(folder)


def test_byte_code_of_more_than_a_megabyte_is_read_whole(folder):
    """No module of elrun's has so much today."""
    source = folder / "plank.py"
    source.write_text(f"TEXT = {'x' * (1 << 20)!r}\nLENGTH = 1\n")
    py_compile.compile(str(source), doraise=True)

    assert 1 == length_in(folder)


def test_byte_code_of_another_interpreter_is_made_anew(folder):
    """Its first bytes say whose it is."""
    compiled = py_compile.compile(str(folder / "plank.py"), doraise=True)
    with open(compiled, "r+b") as file:
        file.write(b"\0\0")

    assert 1 == length_in(folder)


@pytest.mark.parametrize(
    ("name", "has_path"),
    [("elrun.beam", True), ("elrun", False), ("lumber.plank", True), ("elrunner.plank", True)],
)
def test_what_is_not_there_is_left_to_others(folder, name, has_path):
    """A module that is not found, and those of other packages."""
    assert None is OwnModules().find_spec(name, [str(folder)] if has_path else None)


WHO_FINDS = """
import sys
from elrun.own_modules import find_own_modules_first
find_own_modules_first()
import elrun.agent.output.lines as lines
print(type(lines.__loader__).__module__.partition(".")[0])
"""


@pytest.mark.parametrize(
    ("options", "variables", "who"),
    [
        ((), {}, "elrun"),
        (("-O",), {}, "_frozen_importlib_external"),
        ((), {"PYTHONPYCACHEPREFIX": "/caches"}, "_frozen_importlib_external"),
    ],
)
def test_byte_code_that_lies_elsewhere_is_left_to_the_interpreter(options, variables, who):
    """Optimized byte code, and that in a folder for all."""
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables}

    done = subprocess.run(
        [sys.executable, *options, "-c", WHO_FINDS],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert who == done.stdout.strip()


ANOTHER_FIRST = """
import sys
class Another:
    def find_spec(self, name, path=None, target=None):
        if name == "elrun.agent.output.lines":
            raise ImportError("another was asked")
sys.meta_path.insert(0, Another())
from elrun.own_modules import find_own_modules_first
find_own_modules_first()
try:
    import elrun.agent.output.lines
except ImportError as error:
    print(error)
"""


def test_a_finder_that_stood_before_the_interpreters_is_asked_first():
    """A tracer's, for example."""
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_FIRST], capture_output=True, text=True, check=True
    )

    assert "another was asked" == done.stdout.strip()


def test_the_command_finds_its_modules_so():
    """``elrun`` itself does, and what imports the package does not."""
    look = "import sys, elrun.__main__ as m; sys.argv = ['elrun', '--version']; m.main()"
    environ = {"PATH": os.environ["PATH"]}

    done = subprocess.run(
        [sys.executable, "-v", "-c", look], env=environ, capture_output=True, text=True, check=True
    )

    found = [line for line in done.stderr.splitlines() if line.startswith("import 'elrun.launcher")]
    assert found
    assert all("_OwnLoader" in line for line in found)
    assert not any(type(each) is OwnModules for each in sys.meta_path)
    assert elrun.__version__ in done.stdout
