"""The house: rooms, arrows and who may use what, read from the package as it is installed."""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

import elrun

PACKAGE = Path(elrun.__file__).parent
TREE = Path(__file__).parent.parent
HOUSES = ["launcher", "agent", "rendezvous"]  # an import may only point from left to right
# The floors of each, the top one first: an import between rooms points downwards, and rooms on one
# floor don't know each other. Modules that stand in no room are the top floor of `launcher` and the
# bottom floor of the others.
FLOORS = {
    "launcher": [{"launcher"}, {"verbs"}, {"plan", "report"}, {"commandline"}, {"terminal"}],
    "agent": [
        {"elastic"},
        {"control", "workers_store"},
        {"monitoring", "preload"},
        {"processes"},
        {"output", "workers"},
        {"timers", "hardware", "failures", "events", "serving"},
        {"system"},
        {"agent"},
    ],
    "rendezvous": [
        {"backends"},
        {"node"},
        {"liveness"},
        {"stores/etcd", "stores/server"},
        {"stores"},
        {"protocol"},
        {"api"},
        {"network"},
        {"rendezvous"},
    ],
}

# Who may import it, or call it: files, or a room and all that is in it.
USERS_OF = {
    "click": {
        "launcher/commandline/help.py",
        *(
            f"launcher/verbs/{verb}.py"
            for verb in ("front", "logs", "ranks", "report", "stacks", "status", "stop")
        ),
    },
    "rich": {
        "launcher/terminal/screen.py",
        "launcher/terminal/summary.py",
        "launcher/verbs/check_table.py",
        "launcher/verbs/status_table.py",
    },
    "torch": {"agent/workers_store/host_main.py", "launcher/verbs/doctor_worker.py"},
    # A Python function's arguments and return values, between an agent and its own workers.
    "marshal": {"own_modules.py"},  # byte code, as any import reads it
    "pickle": {"agent/processes/function_context.py", "agent/processes/function_main.py"},
    "os.environ": {
        "rendezvous/stores/etcd/server.py",  # for programs of others: no part of elrun makes one
        "launcher/commandline/environment.py",  # the launcher's one reader
        "__main__.py",  # where nothing may be imported: a signal came before the agent was there
        "agent/preload/hook/fork_server.py",  # in the fork server and its workers
        "agent/preload/hook/imports.py",  # in the fork server
        "agent/preload/hook/learn.py",  # in the worker
        "agent/workers/hook/sitecustomize.py",  # in the worker
        "agent/system/environ.py",  # what workers inherit from the agent
        "agent/failures/record.py",  # in the worker
        "agent/workers/heartbeat.py",  # in the worker
        "agent/workers/preemption.py",  # in the worker
        "agent/processes/function_main.py",  # in the worker
        "launcher/verbs/doctor_worker.py",  # in the worker
    },
    "time.sleep": set(),
    "assert": set(),
}
# Scripts that run in a worker, put there by their paths and not imported from the package.
HOOKS = {("agent", "preload/hook"), ("agent", "workers/hook")}
FORBIDDEN_EVERYWHERE = {"cloudpickle", "dill", "shelve"}


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

    @property
    def house(self):
        return self.place.partition("/")[0]

    @property
    def is_door(self):
        """Whether it is a package's ``__init__``, which names what stands in the rooms below."""
        return self.place.endswith("__init__.py")

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


MODULES = [read(path) for path in sorted(PACKAGE.rglob("*.py"))]


PLACES = {module.place for module in MODULES}


def room_of(imported):
    """Return the house and the room of an imported name: ``elrun.agent.system.pidfd.wait``."""
    parts = imported.split(".")[1:]
    while parts and f"{'/'.join(parts)}.py" not in PLACES:
        parts.pop()
    if not parts:  # a package's own name, such as `elrun.agent`
        return imported.split(".")[1], imported.split(".")[1]
    return parts[0], "/".join(parts[1:-1]) or parts[0]


def arrows(modules):
    """Return each import that leaves a module's room: its place, its room, and the other room."""
    return {
        (module.place, module.house, module.room.partition("/")[2] or module.house, *room_of(name))
        for module in modules
        for name in module.imports
        if not module.is_door and name.startswith("elrun.") and module.house in HOUSES
    }


def upward(modules):
    """Return the imports that point upwards, or from one room to another on its floor."""
    return {
        f"{place} imports from {other_house}/{other}"
        for place, house, room, other_house, other in arrows(modules)
        if (house, room) != (other_house, other)
        and (
            HOUSES.index(house) > HOUSES.index(other_house)
            or (house == other_house and floor(house, room) >= floor(house, other))
        )
    }


def floor(house, room):
    """Return the number of a room's floor, counted from the top."""
    return next(number for number, rooms in enumerate(FLOORS[house]) if room in rooms)


def users_of(name, modules=None):
    """Return the places that import or mention it."""
    os_spelling = {"os.environ": {"os.getenv", "os.environb"}}.get(name, set())
    names = {name, *os_spelling}
    return {
        module.place
        for module in modules or MODULES
        if names & module.dotted_names
        or any(imported == name or imported.startswith(name + ".") for imported in module.imports)
    }


def test_the_reader_sees_the_whole_package():
    """Each room is there and has modules: the other tests can fail."""
    assert set(HOUSES) <= {module.house for module in MODULES}
    assert "elrun.agent.failures.failure.ProcessFailure" in {
        imported for module in MODULES for imported in module.imports
    }


def test_imports_point_downwards():
    """From launcher to agent to rendezvous, and inside each from one floor to a lower one."""
    assert set() == upward(MODULES)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("rendezvous/network/planted.py", "from ...agent.elastic.policy import next_step"),
        ("agent/system/planted.py", "from ..processes.guardian import Guardian"),
        ("agent/hardware/planted.py", "def late():\n    from ..events.model import Event"),
        ("rendezvous/protocol/planted.py", "from ..stores.memory import MemoryStore"),
        ("agent/workers/planted.py", "from ..output import lines"),
    ],
)
def test_an_import_upwards_is_seen(place, text):
    """Wherever in a file it stands, and however it is spelt."""
    assert 1 == len(upward([Module(place, ast.parse(text))]))


@pytest.mark.parametrize(
    "text",
    ["import torch", "def late():\n    from torch.distributed import TCPStore", "import torch._C"],
)
def test_an_import_of_torch_is_seen(text):
    """No agent imports it."""
    planted = Module("agent/system/planted.py", ast.parse(text))

    assert {planted.place} == users_of("torch", [planted])


def test_every_room_has_a_floor():
    """A new room must be put somewhere."""
    rooms = {(module.house, module.room.partition("/")[2] or module.house) for module in MODULES}
    with_floors = {(house, room) for house in HOUSES for floor in FLOORS[house] for room in floor}

    assert set() == {each for each in rooms if each[0] in HOUSES} - with_floors - HOOKS


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
        "elrun." + init.parent.relative_to(TREE).as_posix().replace("/", "."): (
            init.parent.relative_to(TREE).as_posix()
        )
        for house in HOUSES
        for init in (TREE / house).rglob("__init__.py")
    }

    assert folders == setuptools["package-dir"]
    assert sorted(folders) == sorted(setuptools["packages"])
    assert set(HOUSES) == {folder for folder in folders.values() if "/" not in folder}


@needs_tree
def test_what_is_tested_is_what_is_in_the_tree():
    """An old install would let every test pass on yesterday's code."""
    in_tree = {"": TREE / "src/elrun", **{house: TREE / house for house in HOUSES}}
    stale = {
        installed.as_posix()
        for house, folder in in_tree.items()
        for path in folder.rglob("*.py")
        for installed in [PACKAGE / house / path.relative_to(folder)]
        if not installed.exists() or installed.read_bytes() != path.read_bytes()
    }

    assert set() == stale


def test_each_test_file_has_a_name_of_its_own():
    """The folders of tests are no packages: two modules of one name can't be imported together."""
    names = [path.name for path in (TREE / "tests").rglob("test_*.py")]

    assert [] == sorted({name for name in names if names.count(name) > 1})
