"""What a failure needs is loaded before there is one."""

import ast
import importlib
import re
import subprocess
import sys
from importlib.util import find_spec, resolve_name
from pathlib import Path

import pytest
from elrun.agent.elastic.late_modules import (
    BEGUN_BY_THEN,
    BEGUN_WHOLE,
    NOT_OF_AN_AGENT,
    unneeded,
)
from elrun.agent.elastic.readiness import (
    LIVED_S,
    SLICE_S,
    Afterwards,
    Readiness,
    load_for_failures,
)
from elrun.agent.failures.advice import topic_of
from elrun.agent.failures.last_words import last_words_in, tells_of_another_process
from elrun.agent.failures.shortening import shortened_traceback
from elrun.agent.failures.traceback_place import innermost_place

import elrun

BEFORE_A_LAUNCH = {
    "elrun.launcher.cli",
    "elrun.launcher.commandline.parse",
    "elrun.launcher.library",
}
"""They import what other commands are."""

BEFORE_THE_WORKERS = {
    "elrun.agent.elastic.companions": "each begins before the first workers, or as a whole",
    "elrun.agent.elastic.facts": "a node is tried before each of its rounds",
    "elrun.agent.elastic.group_processes": "binds the workers of each attempt alike",
    "elrun.agent.elastic.recorded": "made with the agent",
    "elrun.agent.elastic.waiting": "meets for the first attempt",
    "elrun.agent.events.otlp_export": "imported by what it imports",
    "elrun.agent.processes.start": "starts the workers of each attempt alike",
    "elrun.agent.workers.environment": "looks at the same program for each attempt",
    "elrun.launcher.commandline.converters": "reads the command line",
    "elrun.launcher.commandline.environment": "reads the secret at the start",
    "elrun.launcher.launch": "before it begins to run",
    "elrun.launcher.meeting": "before it begins to run",
    "elrun.rendezvous.api.parameters": "before the rendezvous is made",
}
"""They import what a job has loaded by the time its workers run, or never loads; and why."""


class World:
    """A clock that the test moves, and how much was loaded, in steps that take a while each."""

    def __init__(self, step_s=0.0):
        self.now, self.loads, self.step_s = 100.0, 0, step_s

    def clock(self):
        return self.now

    def load(self):
        for _ in range(3):
            self.loads += 1
            self.now += self.step_s
            yield

    def readiness(self, load=None):
        return Readiness(load or self.load, self.clock)


def test_it_is_loaded_once_when_workers_have_lived_for_a_moment():
    """The loop wakes for that, and for no later attempt."""
    world = World()
    readiness = world.readiness()

    before = readiness.wakes().within_s
    readiness.begin_attempt()
    at_start = readiness.wakes().within_s
    readiness.tick()
    loads = world.loads
    world.now += LIVED_S
    due_s = readiness.wakes().within_s
    readiness.tick()
    readiness.end_attempt()
    readiness.begin_attempt()
    after = due_s, readiness.wakes().within_s

    assert (None, LIVED_S, 0) == (before, at_start, loads)
    assert ((0, None), 3) == (after, world.loads)


def test_what_nobody_waits_for_is_done_in_each_attempt_that_lives_for_a_moment():
    """An attempt that ends before leaves it to the next one."""
    world, done = World(), []
    afterwards = Afterwards(lambda: done.append(world.now), world.clock)

    for lived_s in (LIVED_S / 2, LIVED_S, LIVED_S):
        afterwards.begin_attempt()
        afterwards.tick()
        world.now += lived_s
        afterwards.tick()
        afterwards.tick()
        afterwards.end_attempt()
        world.now += LIVED_S
        afterwards.tick()
        world.now -= LIVED_S
    begun_at = 100.0 + LIVED_S / 2

    assert [begun_at + LIVED_S, begun_at + 2 * LIVED_S] == done
    assert None is afterwards.wakes().within_s


def test_a_failure_interrupts_what_takes_long():
    """The loop looks at the workers after each slice; the next attempt loads what is left."""
    world = World(step_s=SLICE_S)
    readiness = world.readiness()

    readiness.begin_attempt()
    world.now += LIVED_S
    readiness.tick()
    after_slice = world.loads, readiness.wakes().within_s
    readiness.end_attempt()
    readiness.tick()
    in_restart = world.loads, readiness.wakes().within_s
    readiness.begin_attempt()
    world.now += LIVED_S
    while readiness.wakes().within_s is not None:
        readiness.tick()

    assert ((1, 0), (1, None), 3) == (after_slice, in_restart, world.loads)


def test_nothing_is_loaded_beside_a_restart():
    """An attempt that died at once costs its successor nothing."""
    world = World()
    readiness = world.readiness()

    readiness.begin_attempt()
    readiness.end_attempt()
    world.now += LIVED_S
    readiness.tick()

    assert (0, None) == (world.loads, readiness.wakes().within_s)


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), ImportError("gone"), SyntaxError("half of it")]
)
def test_an_agent_goes_on_that_can_not_load_what_a_failure_needs(error):
    """A failure will load it, or say what is missing: files are half written in an upgrade."""
    world = World()

    def fail():
        world.loads += 1
        yield
        raise error

    readiness = world.readiness(fail)
    readiness.begin_attempt()
    world.now += LIVED_S
    readiness.tick()
    readiness.tick()

    assert (1, None) == (world.loads, readiness.wakes().within_s)


def modules_of_agents():
    """Yield the names and texts of the modules that an agent may import while its job runs."""
    root = Path(elrun.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = ".".join(("elrun", *path.relative_to(root).with_suffix("").parts))
        name = name.removesuffix(".__init__")
        if name not in BEFORE_A_LAUNCH and not is_left_out(name):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            yield name, package, OfARun().visit(ast.parse(path.read_text()))


class OfARun(ast.NodeTransformer):
    """Takes out what is for type checkers alone."""

    def visit_If(self, node):
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else self.generic_visit(node)


def is_left_out(name, left_out=NOT_OF_AN_AGENT):
    return any(f"{name}.".startswith(f"{each}.") for each in left_out)


def imports_of(package, tree):
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = resolve_name("." * level + (module or ""), package) if level else module
                yield from (f"{base}.{each.name}" for each in names)


def test_an_agent_imports_nothing_that_it_does_not_keep():
    """Once elrun has been replaced on disk, that import would fail."""
    modules = list(modules_of_agents())

    found = {
        (name, each)
        for name, package, tree in modules
        for each in imports_of(package, tree)
        if is_left_out(each)
    }

    assert (True, set()) == (len(modules) > 300, found)


def test_only_what_begins_before_the_workers_imports_what_begins_with_them():
    """The end of a job on a replaced elrun would mix two versions elsewhere."""
    begun = [*BEGUN_BY_THEN, *BEGUN_WHOLE]

    importers = {
        name
        for name, package, tree in modules_of_agents()
        if not is_left_out(name, begun)
        and any(is_left_out(each, begun) for each in imports_of(package, tree))
    }

    assert {*BEFORE_THE_WORKERS} == importers


def test_a_room_that_was_begun_is_kept():
    """Nodes that meet import more of it later."""
    rooms = [*unneeded({"elrun.rendezvous.node"})]

    assert [False, True] == [
        f"elrun.rendezvous.{room}" in rooms for room in ("node", "stores.server")
    ]


def test_what_is_not_kept_is_there():
    """A name that was changed would be kept in vain."""
    assert [] == [
        each for each in unneeded(()) if each.startswith("elrun") and find_spec(each) is None
    ]


def test_a_failure_compiles_no_pattern_that_was_not_compiled_before(monkeypatch):
    """A dozen patterns cost a restart milliseconds, whether a worker has said anything or not."""
    compiler = importlib.import_module(
        "re._compiler" if sys.version_info >= (3, 11) else "sre_compile"
    )
    re.purge()
    list(load_for_failures())
    compiled = []
    real = compiler.compile
    monkeypatch.setattr(
        compiler, "compile", lambda pattern, *more: compiled.append(pattern) or real(pattern, *more)
    )

    topics = [topic_of(words) for words in ("", "OSError: [Errno 98] Address already in use")]
    tells_of_another_process("CalledProcessError: returned non-zero exit status 1")
    for words in ("", "Killed\n", "Traceback (most recent call last):\nOSError: no\n"):
        last_words_in(words)
    place = innermost_place('  File "/a/b.py", line 1, in f')
    shortened_traceback('Traceback (most recent call last):\n  File "c"\nKeyError: 1\n', "file")

    assert ([], "f (/a/b.py, line 1)") == (compiled, place)
    assert [True, False] == [topic is None for topic in topics]


READ_A_RECORD = """
import sys
from elrun.agent.elastic.readiness import load_for_failures
list(load_for_failures())
loaded = set(sys.modules)
from elrun.agent.failures.error_record import read_error_record
from elrun.agent.system.left_files import LeftFileReader
record, _ = read_error_record(sys.argv[1], LeftFileReader())
print(record["message"], sorted({*sys.modules} - loaded))
"""


def test_a_failure_reads_its_record_with_what_was_loaded(tmp_path):
    """The parser of error files is no exception."""
    (tmp_path / "error.json").write_text('{"message": "no"}')

    done = subprocess.run(
        [sys.executable, "-c", READ_A_RECORD, str(tmp_path / "error.json")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "no []\n" == done.stdout
