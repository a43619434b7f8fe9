"""Jobs on machines where nothing can be written: containers with a read-only root."""

import subprocess

import pytest

pytestmark = pytest.mark.integration

READ_ONLY = """
for place in /tmp /var/tmp "$PWD"; do
    mount --rbind "$place" "$place" && mount -o remount,bind,ro "$place" || exit 99
done
cd "$PWD" && exec "$0" "$@"
"""
PREFIX = ("unshare", "-rm", "sh", "-c", READ_ONLY)
HINT = (
    "no directory for log and error files: /tmp: Read-only file system; set TMPDIR to a folder "
    "that you can write to, or give --log-dir; the job goes on without them"
)


@pytest.fixture(name="read_only")
def _read_only(elrun, script, tmp_path):
    """Run a job of a script where no folder can be written to; return how it ended."""
    if subprocess.run([*PREFIX, "true"], cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip("this machine gives no mounts of one's own")
    path = script("import sys; print('well'); sys.exit(int(sys.argv[1]))")

    def run(*options, code=0, env=None):
        return elrun(
            *options, path, code, prefix=PREFIX, env={"TMPDIR": "", **(env or {})}
        ).finish()

    return run


@pytest.mark.parametrize("options", [(), ("--tee", 3), ("--run-path",)], ids=str)
def test_a_job_runs_where_nothing_can_be_written(read_only, options):
    """One line names the variable and the option that give it a place."""
    code, out, err = read_only(*options)

    assert (0, f"elrun: {HINT}\n") == (code, err)
    assert out.endswith("well\n")


def test_a_failure_is_told_where_nothing_can_be_written(read_only):
    """With the worker's own exit code."""
    code, _, err = read_only(code=3)

    assert 3 == code
    assert err.startswith(f"elrun: {HINT}\nelrun: script.py failed: rank 0 exited with code 3")


def test_a_named_folder_that_cannot_be_written_is_refused(read_only, tmp_path):
    """It was asked for."""
    code, out, err = read_only("--log-dir", tmp_path / "logs")

    assert (2, "") == (code, out)
    assert err.endswith("logs can't be used: Read-only file system; give a directory that you can "
                        "write to\n")  # fmt: skip


def test_timers_need_a_place_and_say_so(read_only):
    """The job runs without them."""
    code, _, err = read_only(env={"TORCHELASTIC_ENABLE_FILE_TIMER": "on"})

    assert 0 == code
    assert (
        "elrun: workers can set no timers: no pipe in /tmp: Read-only file system; set TMPDIR to a "
        "folder that you can write to"
    ) in err.splitlines()
