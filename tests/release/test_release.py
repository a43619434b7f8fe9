"""What `make release` takes for a release."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import release
from release import Failed, Release, check_all, check_version, read_version, run

import elrun

TREE = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## 0.2.0, 2026-12-01\n\n- news\n\n## 0.1.0, 2026-11-02\n"


def test_a_release_has_a_number_and_its_own_part_of_the_changelog():
    """The newest part: a release without news for users has a line that says so."""
    assert check_version("0.2.0", CHANGELOG) is None


@pytest.mark.parametrize(
    ("version", "changelog", "words"),
    [
        ("0.2.0.dev0", CHANGELOG, "is no release"),
        ("0.2.0rc1", CHANGELOG, "is no release"),
        ("0.1.0", CHANGELOG, "has to be '## 0.1.0, YYYY-MM-DD'"),
        ("0.2.0", "# Changelog\n\n## 0.2.0, unreleased\n", "'## 0.2.0, unreleased'"),
        ("0.2.0", "# Changelog\n\n## 0x2.0, 2026-12-01\n", "has to be"),
    ],
)
def test_what_is_no_release_is_refused(version, changelog, words):
    """The sentence names the file to change."""
    with pytest.raises(Failed, match=words):
        check_version(version, changelog)


def test_a_version_stands_in_one_place(tmp_path):
    """The build reads it from the package, and so does `make release`."""
    folder = tmp_path / "launcher/commandline"
    folder.mkdir(parents=True)
    (folder / "version.py").write_text('"""x"""\n\n__version__ = "3.1.4"\n')
    assert "3.1.4" == read_version(tmp_path)
    (folder / "version.py").write_text("__version__ = make()\n")
    with pytest.raises(Failed, match=r"version\.py has no line __version__"):
        read_version(tmp_path)


@pytest.mark.skipif(not (TREE / "launcher").is_dir(), reason="the sources are not beside the tests")
def test_the_version_of_the_tree_is_the_packages():
    """No other file has it."""
    assert elrun.__version__ == read_version()
    assert elrun.__version__ not in (TREE / "pyproject.toml").read_text()


def test_a_failed_command_shows_what_it_printed():
    """And how it ended."""
    with pytest.raises(Failed, match=r"(?s)exit code 3: .*why\nand how"):
        run(sys.executable, "-c", "print('why'); print('and how'); raise SystemExit(3)")


def test_a_failed_check_ends_no_rehearsal_and_is_named(monkeypatch, tmp_path, capsys):
    """One run shows all that is missing."""

    def fails(_):
        raise Failed("say why")

    def lacks_a_file(_):
        (tmp_path / "none").read_bytes()

    steps = [("one", fails), ("two", lacks_a_file), ("three", lambda _: None)]
    monkeypatch.setattr(release, "STEPS", steps)

    assert ["one", "two"] == check_all(Release("1.0.0", tmp_path))
    out = capsys.readouterr().out.splitlines()
    assert ["FAILED  one: say why", "ok      three"] == [out[0], out[-1]]
    assert "none" in out[1]


def test_the_checksums_are_what_a_program_reads(monkeypatch, tmp_path):
    """`sha256sum --check SHA256SUMS` says whether a download is whole."""
    monkeypatch.setattr(release, "DIST", tmp_path)
    (tmp_path / "a.whl").write_bytes(b"a")
    (tmp_path / "b.tar.gz").write_bytes(b"b")

    release.write_checksums()

    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert f"{hashlib.sha256(b'a').hexdigest()}  a.whl" == lines[0]
    assert 2 == len(lines)


@pytest.mark.integration  # it builds
@pytest.mark.skipif(not (TREE / "launcher").is_dir(), reason="the sources are not beside the tests")
def test_the_source_distribution_has_what_a_build_needs_and_no_tests(tmp_path):
    """Tests need a clone: kits, documents and examples lie beside them."""
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", TREE, clone], check=True)
    subprocess.run([*command, clone], check=True, capture_output=True)

    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "launcher/report/page.html"} <= names
    assert "agent/workers/hook/sitecustomize.py" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", ".ci"))]
