"""A cgroup's quota of CPU time counts for ``--nproc-per-node cpu``, in a real cgroup."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

VERSION_1 = Path("/sys/fs/cgroup/cpu")


@pytest.fixture(name="in_one_cpu")
def _in_one_cpu():
    """Return the words before a command that run it with the time of one CPU."""
    folder = VERSION_1 / f"elrun-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text((folder / "cpu.cfs_period_us").read_text())
    except OSError as error:
        pytest.skip(f"no cpu cgroup of version 1 can be made: {error}")
    yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    folder.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a quota of one CPU is all there is")
def test_a_quota_of_one_cpu_is_one_worker(elrun, script, in_one_cpu):
    """And a line says why it is not one for each CPU."""
    job = elrun(
        "--nproc-per-node",
        "cpu",
        script("import os; print(os.environ['WORLD_SIZE'])"),
        prefix=in_one_cpu,
    )

    code, out, err = job.finish()

    assert (0, "1\n") == (code, out), err
    assert "--nproc-per-node cpu: the cgroup has the time of 1 of " in err
