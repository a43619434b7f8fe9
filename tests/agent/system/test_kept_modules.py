"""Modules are imported as they were when they were kept, whatever is on disk by then."""

import compileall
import shutil
import sys

import pytest
from elrun.agent.system.kept_modules import KeptModules, keep_for_later

NAMES = ["plank", "shed", "shed.saw"]


@pytest.fixture(name="package")
def _package(tmp_path, monkeypatch):
    """A package of four modules, of which none is imported."""
    folder = tmp_path / "lumber"
    (folder / "shed").mkdir(parents=True)
    (folder / "__init__.py").write_text("from . import plank\n")
    (folder / "plank.py").write_text("LENGTH = 1\n")
    (folder / "shed" / "__init__.py").write_text("")
    (folder / "shed" / "saw.py").write_text("from ..plank import LENGTH\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kept = KeptModules()
    monkeypatch.setattr(sys, "meta_path", [kept, *sys.meta_path])
    yield folder, kept
    for name in [each for each in sys.modules if each.partition(".")[0] == "lumber"]:
        del sys.modules[name]


def remove(folder):
    shutil.rmtree(folder)


def half_write(folder):
    for path in folder.rglob("*.py"):
        path.write_text("def (")


def replace(folder):
    (folder / "plank.py").write_text("WIDTH = 2\n")


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("change", [remove, half_write, replace])
def test_what_is_kept_does_not_change(package, change, is_compiled):
    """From byte code where there is some, and from the source elsewhere."""
    folder, kept = package
    if is_compiled:
        compileall.compile_dir(folder, quiet=1)
    list(kept.keep(["lumber"]))
    change(folder)

    from lumber.shed import saw  # the subject

    assert (1, str(folder / "shed" / "saw.py")) == (saw.LENGTH, saw.__file__)


def test_byte_code_of_an_older_source_is_not_used(package):
    """The source is kept instead."""
    folder, kept = package
    compileall.compile_dir(folder, quiet=1)
    (folder / "plank.py").write_text("LENGTH = 1234\n")
    list(kept.keep(["lumber"]))
    remove(folder)

    import lumber

    assert 1234 == lumber.plank.LENGTH


def test_a_package_that_is_imported_in_part_is_kept_for_the_rest(package):
    """What is imported stays as it is."""
    folder, kept = package
    import lumber

    list(kept.keep(["lumber"]))
    remove(folder)
    from lumber.shed import saw

    assert (lumber.plank.LENGTH, None) == (saw.LENGTH, kept.find_spec("lumber.plank"))


def test_what_was_imported_is_given_back(package):
    """Its file takes memory no longer."""
    folder, kept = package
    list(kept.keep(["lumber"]))
    remove(folder)
    from lumber.shed import saw

    assert [None] * 3 == [kept.find_spec(f"lumber.{name}") for name in NAMES]
    with pytest.raises(OSError, match=r"saw\.py"):
        saw.__loader__.get_data(saw.__file__)


def test_a_module_that_fails_is_kept(package):
    """It may be imported again."""
    folder, kept = package
    (folder / "plank.py").write_text("import sys\nLENGTH = sys.length_of_planks\n")
    list(kept.keep(["lumber"]))
    remove(folder)

    with pytest.raises(AttributeError):
        from lumber import plank
    sys.length_of_planks = 7
    try:
        from lumber import plank
    finally:
        del sys.length_of_planks

    assert 7 == plank.LENGTH


@pytest.mark.parametrize(
    ("left_out", "kept_still"),
    [("lumber.shed", ["plank"]), ("lumber.shed.saw", ["plank", "shed"]), ("lumber.none", NAMES)],
)
def test_what_nobody_will_import_is_not_kept(package, left_out, kept_still):
    """A module, or a package with all that is in it."""
    _, kept = package
    list(kept.keep(["lumber"], [left_out]))

    assert kept_still == [name for name in NAMES if kept.find_spec(f"lumber.{name}")]


def test_what_is_no_package_of_files_is_left_alone(package):
    """Built-in modules, and those that don't exist."""
    _, kept = package
    list(kept.keep(["sys", "no_such_package_anywhere"]))

    assert None is kept.find_spec("no_such_package_anywhere")


def test_a_later_job_of_the_process_keeps_what_it_needs_besides(package):
    """The first may have left out what this one will import."""
    _, kept = package
    list(keep_for_later(["lumber"], ["lumber.shed"]))
    first = kept.find_spec("lumber.shed.saw")
    list(keep_for_later(["lumber"]))

    assert (True, False) == (first is None, kept.find_spec("lumber.shed.saw") is None)
