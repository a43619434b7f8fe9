"""What `make release` takes for a release."""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import release
from release import (
    Failed,
    Release,
    Unknown,
    check_all,
    check_version,
    has_no_known_hole,
    read_version,
    run,
    what_next,
)

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


@pytest.fixture(name="audit")
def _audit(monkeypatch, tmp_path):
    """Return what audits by a program that prints, writes what it found, and ends."""

    def audit(printed, found, code):
        program = tmp_path / "pip-audit"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nprint({printed!r})\nfound = {found!r}\n"
            "if found: open(sys.argv[sys.argv.index('--output') + 1], 'w').write(found)\n"
            f"sys.exit({code})\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(release, "BIN", tmp_path)
        monkeypatch.setattr(release, "audited", lambda _: tmp_path / "audited.txt")
        has_no_known_hole(Release("1.0.0", tmp_path))

    return audit


SILENT = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited"}
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}


def test_packages_of_which_nothing_is_known_are_well(audit):
    """The index was asked for each of them."""
    found = [{"name": "rich", "version": "15.0.0", "vulns": []}]

    assert audit("No known vulnerabilities found", json.dumps({"dependencies": found}), 0) is None


@pytest.mark.parametrize(
    ("printed", "found", "code", "kind", "words"),
    [
        ("Traceback\nConnectionError: no route", "", 1, Unknown, "code 1: ConnectionError: no"),
        ("", "", 0, Unknown, "exit code 0: it printed nothing"),
        ("", [SILENT], 0, Unknown, "no advisories for 1 of 1 packages: rich"),
        ("", [{"name": "x", "version": "2.0", "vulns": [HOLE]}], 1, Failed,
         "x 2.0: PYSEC-1, mended in 2.1 or 3.0"),
        ("", [SILENT, {"name": "x", "version": "2.0", "vulns": [{"id": "A", "fix_versions": []}]}],
         1, Failed, "x 2.0: A, mended in no version yet"),
    ],
    ids=["no network", "no answer", "no advisories", "a hole", "a hole without a cure"],
)  # fmt: skip
def test_packages_that_were_not_audited_are_not_called_well(
    audit, printed, found, code, kind, words
):
    """Without a network, or with an index that has no advisories, nobody knows."""
    with pytest.raises(kind, match=words):
        audit(printed, found and json.dumps({"dependencies": found}), code)


def test_what_could_not_be_checked_stands_in_place_of_the_upload(monkeypatch, tmp_path, capsys):
    """It is no failure of what was built, and no reason to publish it."""

    def asks(_):
        raise Unknown("no network")

    monkeypatch.setattr(release, "STEPS", [("one", asks), ("two", lambda _: None)])
    built = Release("1.0.0", tmp_path)

    assert [] == check_all(built)
    assert ["UNKNOWN one: no network", "ok      two"] == capsys.readouterr().out.splitlines()
    assert "not checked on this machine: one. Check it before an upload" == what_next(built)
    assert "upload it with" in what_next(Release("1.0.0", tmp_path))


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
