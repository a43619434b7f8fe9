"""Which versions an interpreter would import."""

import sys
import venv

import pytest
from elrun.agent.workers.versions import interpreter_facts, version_on


@pytest.mark.parametrize(
    ("entry", "version"),
    [
        ("torch-2.13.0.dist-info", "2.13.0"),
        ("torch-2.13.0+cu126.dist-info", "2.13.0+cu126"),
        ("torch-2.4.0a0+git12ab.egg-info", "2.4.0a0+git12ab"),
        ("torch-1.13.1-py3.10.egg-info", "1.13.1"),
        ("torch_geometric-2.13.0.dist-info", ""),
        ("torch", ""),
    ],
)
def test_the_name_of_the_metadata_has_the_version(tmp_path, entry, version):
    """However the package was installed; another package's name may begin alike."""
    (tmp_path / entry).mkdir()

    assert version == version_on([str(tmp_path)], "torch")


def test_the_first_folder_counts(tmp_path):
    """As it does for an import; folders that are not there, archives and "" are passed over."""
    for name in ("b", "a"):
        (tmp_path / name / f"torch-{name}.dist-info").mkdir(parents=True)
    (tmp_path / "archive.zip").touch()
    path = [tmp_path / each for each in ("none", "archive.zip", "b", "a")]

    assert "b" == version_on(["", *map(str, path)], "torch")


def test_the_agents_own_interpreter_is_not_asked():
    """No process is started for it."""
    assert (sys.version.split()[0], sys.path) == interpreter_facts(sys.executable, {})


def test_another_interpreter_tells_its_path_with_all_that_is_added_to_it(tmp_path):
    """By a file in its environment, whatever a sitecustomize prints."""
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (tmp_path / "more").mkdir()
    (site / "more.pth").write_text(f"{tmp_path}/more\n")
    (site / "sitecustomize.py").write_text("print('[1] hello', end='')")

    version, path = interpreter_facts(f"{tmp_path}/venv/bin/python", {})

    assert sys.version.split()[0] == version
    assert f"{tmp_path}/more" in path


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/true", "/bin/false"])
def test_what_does_not_tell_is_unknown(program):
    """The job goes on without."""
    assert None is interpreter_facts(program, {})
