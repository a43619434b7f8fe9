"""The kernel's count of what it killed for want of memory, in either version of cgroups."""

import pytest
from elrun.agent.failures.memory_events import MemoryEvents

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"
MIB = 1 << 20


@pytest.fixture(name="host")
def _host(tmp_path):
    """Return what writes a file of an invented host, and what asks it for its count."""

    class Host:
        def write(self, path, text):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

        def now(self):
            return MemoryEvents.now(
                str(tmp_path / "cgroup"), str(tmp_path / "own"), str(tmp_path / "vmstat")
            )

    return Host()


def test_the_count_of_version_2_is_read(host):
    """The file of this process's own cgroup comes first, with its limit and peak."""
    host.write("own", "0::/user.slice/job\n")
    host.write("cgroup/memory.events", V2.format(90))
    host.write("cgroup/user.slice/job/memory.events", V2.format(4))
    host.write("cgroup/user.slice/job/memory.max", f"{512 * MIB}\n")
    host.write("cgroup/user.slice/job/memory.peak", f"{511 * MIB}\n")

    events = host.now()

    assert (4, 512 * MIB, 511 * MIB) == (events.kills, events.limit_bytes(), events.peak_bytes())


def test_the_count_of_version_1_is_read(host):
    """Its files have other names, and a folder for each controller."""
    host.write("own", "5:cpu,cpuacct:/x\n4:memory:/job\n0::/elsewhere\n")
    host.write("cgroup/memory/job/memory.oom_control", V1.format(2))
    host.write("cgroup/memory/job/memory.limit_in_bytes", f"{64 * MIB}\n")
    host.write("cgroup/memory/job/memory.max_usage_in_bytes", f"{63 * MIB}\n")

    events = host.now()

    assert (2, 64 * MIB, 63 * MIB) == (events.kills, events.limit_bytes(), events.peak_bytes())


@pytest.mark.parametrize(
    ("own", "file", "text"),
    [
        ("0::/docker/abc\n", "cgroup/memory.events", V2),
        ("4:memory:/docker/abc\n", "cgroup/memory/memory.oom_control", V1),
    ],
)
def test_in_a_container_the_mounted_root_is_its_cgroup(host, own, file, text):
    """The path that the kernel names exists on the host only."""
    host.write("own", own)
    host.write(file, text.format(1))

    assert 1 == host.now().kills


def test_without_a_memory_cgroup_the_host_counts(host):
    """It has no limit of its own."""
    host.write("own", "0::/\n")
    host.write("vmstat", "nr_free_pages 7\noom_kill 3\noom_kill_other 8\n")

    events = host.now()

    assert (3, None, None) == (events.kills, events.limit_bytes(), events.peak_bytes())


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom_kill -1\n", "\0\n"])
def test_what_is_no_count_is_none(host, text):
    """A kernel that does not count is no kernel that killed nothing."""
    host.write("own", "0::/job\n")
    host.write("cgroup/job/memory.events", text)

    assert ("", None) == (host.now().source, host.now().kills_since())


@pytest.mark.parametrize("unlimited", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_is_none(host, unlimited):
    """Either version has its own word for it."""
    host.write("own", "0::/job\n")
    host.write("cgroup/job/memory.events", V2.format(0))
    host.write("cgroup/job/memory.max", unlimited)

    assert None is host.now().limit_bytes()


def test_kills_are_counted_from_a_moment_on(host):
    """What was killed before, or a count that began anew, is no kill of ours."""
    host.write("own", "0::/job\n")
    host.write("cgroup/job/memory.events", V2.format(5))
    before = host.now()

    counts = []
    for now in (5, 7, 0):
        host.write("cgroup/job/memory.events", V2.format(now))
        counts.append(before.kills_since())

    assert [0, 2, 0] == counts


def test_a_count_that_is_gone_is_not_known(host, tmp_path):
    """The cgroup may have been removed, or this process moved."""
    host.write("own", "0::/job\n")
    host.write("cgroup/job/memory.events", V2.format(5))
    before = host.now()
    (tmp_path / "cgroup/job/memory.events").unlink()

    assert None is before.kills_since()


def test_this_machine_has_a_count():
    """Linux counts since 4.13."""
    assert MemoryEvents.now().kills >= 0
