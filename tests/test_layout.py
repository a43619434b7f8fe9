"""The house: rooms, arrows and who may use what, read from the package as it is installed."""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

import elrun

PACKAGE = Path(elrun.__file__).parent
TREE = Path(__file__).parent.parent
ROOMS = ["launcher", "agent", "rendezvous"]  # an import may only point from left to right

# Who may import it, or call it: files, or a room and all that is in it.
USERS_OF = {
    "click": {"launcher/help.py"},
    "rich": {"launcher/summary.py"},
    "torch": {"rendezvous/c10d.py", "agent/store_host_main.py"},
    # A Python function's arguments and return values, between an agent and its own workers.
    "pickle": {"agent/functions.py", "agent/worker_main.py"},
    "os.environ": {
        "rendezvous/etcd_server.py",  # for programs of others: no part of elrun makes one
        "launcher/config.py",  # the launcher's one reader
        "__main__.py",  # where nothing may be imported: a signal came before the agent was there
        "agent/environ.py",  # what workers inherit from the agent
        "agent/error_file.py",  # in the worker
        "agent/worker_main.py",  # in the worker
        "rendezvous/c10d.py",  # whether torch's own log level is set, when torch is imported
    },
    "time.sleep": set(),
    "assert": set(),
}
FORBIDDEN_EVERYWHERE = {"cloudpickle", "dill", "marshal", "shelve"}


needs_tree = pytest.mark.skipif(
    not (TREE / "src").exists(), reason="a wheel is tested, no source tree is near"
)


@dataclass(frozen=True)
class Module:
    """A file of the package and what its text says, by name."""

    place: str
    tree: ast.Module

    @property
    def room(self):
        return self.place.rpartition("/")[0]

    @cached_property
    def imports(self):
        """Return the names that it imports; those of the package begin with ``elrun``."""
        found = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    found |= {alias.name for alias in names}
                case ast.ImportFrom(module=module, names=names, level=level):
                    found |= {self._absolute(module, alias.name, level) for alias in names}
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value), *_]
                ):
                    found.add(self._absolute(value.lstrip("."), "", value.startswith(".")))
        return found

    @cached_property
    def dotted_names(self):
        """Return every ``a.b`` in it, and the keywords that this test asks for."""
        found = {
            ast.unparse(node) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)
        }
        if any(isinstance(node, ast.Assert) for node in ast.walk(self.tree)):
            found.add("assert")
        return found

    def _absolute(self, module, name, level):
        base = ["elrun", *self.room.split("/")] if level else []
        parts = [*base[: len(base) - level + 1], module, name] if level else [module, name]
        return ".".join(filter(None, parts))


def read(path):
    place = path.relative_to(PACKAGE).as_posix()
    return Module(place, ast.parse(path.read_text(), place))


MODULES = [read(path) for path in sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*/*.py")])]


def users_of(name):
    """Return the places that import or mention it."""
    os_spelling = {"os.environ": {"os.getenv", "os.environb"}}.get(name, set())
    names = {name, *os_spelling}
    return {
        module.place
        for module in MODULES
        if names & module.dotted_names
        or any(imported == name or imported.startswith(name + ".") for imported in module.imports)
    }


def test_the_reader_sees_the_whole_package():
    """Each room is there and has modules: the other tests can fail."""
    assert set(ROOMS) <= {module.room for module in MODULES}
    assert "elrun.agent.failure.ProcessFailure" in {
        imported for module in MODULES for imported in module.imports
    }


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_from_launcher_to_agent_to_rendezvous(room):
    """A room imports itself and the rooms below it, never one above."""
    below = {*ROOMS[ROOMS.index(room) :]}
    wrong = {
        f"{module.place} imports {imported}"
        for module in MODULES
        if module.room == room
        for imported in module.imports
        if imported.startswith("elrun.") and imported.split(".")[1] not in below
    }

    assert set() == wrong


def test_rooms_import_each_other_relatively():
    """So the tree on disk and the package read the same."""
    absolute = {
        f"{module.place}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and node.module.split(".")[0] == "elrun"
        )
        or (
            isinstance(node, ast.Import)
            and any(a.name.split(".")[0] == "elrun" for a in node.names)
        )
    }

    assert set() == absolute


@pytest.mark.parametrize("name", USERS_OF)
def test_each_tool_stays_in_its_room(name):
    """A library or a habit is used where the design puts it, and nowhere else."""
    assert set() == users_of(name) - USERS_OF[name]


@pytest.mark.parametrize("name", sorted(FORBIDDEN_EVERYWHERE))
def test_no_pickle_in_disguise(name):
    """Other libraries that run what they read have no place at all."""
    assert set() == users_of(name)


@needs_tree
def test_the_package_list_names_every_folder():
    """A room that is missing from the list would be absent from the wheel."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    setuptools = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {"elrun": "src/elrun"} | {
        f"elrun.{init.parent.name}": init.parent.name for init in TREE.glob("*/__init__.py")
    }

    assert folders == setuptools["package-dir"]
    assert sorted(folders) == sorted(setuptools["packages"])
    assert set(ROOMS) == {folder for folder in folders.values() if "/" not in folder}


@needs_tree
def test_what_is_tested_is_what_is_in_the_tree():
    """An old install would let every test pass on yesterday's code."""
    in_tree = {"": TREE / "src/elrun", **{room: TREE / room for room in ROOMS}}
    stale = {
        f"{room}/{path.name}"
        for room, folder in in_tree.items()
        for path in folder.glob("*.py")
        if not (PACKAGE / room / path.name).exists()
        or (PACKAGE / room / path.name).read_bytes() != path.read_bytes()
    }

    assert set() == stale
