"""The CPUs that a process may use, from its affinity and its cgroups."""

import math

import pytest
from elrun.agent.hardware.cpus import cpu_quota


@pytest.fixture(name="machine")
def _machine(tmp_path):
    """Write cgroup files and this process's cgroups; return what is read from them."""

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for path, text in files.items():
            file = tmp_path / "mounted" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return cpu_quota(str(tmp_path / "mounted"), str(tmp_path / "own"))

    return write


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"}, 2.0),
        # A container that does not see its own path.
        ("0::/kubepods/pod1\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/x\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        ("4:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "10"}, math.inf),
        ("4:cpuset:/x\n3:memory:/x\n", {"cpu/cpu.cfs_quota_us": "1"}, math.inf),
        ("nonsense", {"cpu.max": "x y z"}, math.inf),
        ("0::/\n", {"cpu.max": "0 0"}, math.inf),
    ],
)  # fmt: skip
def test_the_smallest_quota_on_the_way_up_counts(machine, own, files, quota):
    """In either version of cgroups; what can't be read is no limit."""
    assert quota == machine(own, **files)
