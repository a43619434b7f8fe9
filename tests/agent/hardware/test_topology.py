"""How the kernel's files become a topology."""

import os

import pytest
from elrun.agent.hardware.gpus import Gpu
from elrun.agent.hardware.topology import (
    NumaNode,
    Topology,
    parse_numbers,
    read_topology,
    write_numbers,
)

# Two sockets of two cores with two threads each, and a node of memory only; node 1 is offline.
FILES = {
    "devices/system/node/online": "0,2-3",
    "devices/system/node/node0/cpulist": "0-1,4-5",
    "devices/system/node/node0/distance": "10 20 30",
    "devices/system/node/node2/cpulist": "2-3,6-7",
    "devices/system/node/node2/distance": "20 10 31",
    "devices/system/node/node3/cpulist": "",
    "devices/system/node/node3/distance": "30 31 10",
    "devices/system/cpu/cpu0/topology/core_siblings_list": "0-1,4-5",
    "devices/system/cpu/cpu2/topology/core_siblings_list": "2-3,6-7",
    **{
        f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu},{cpu + 4}"
        for cpu in range(4)
    },
    **{
        f"devices/system/cpu/cpu{cpu}/cache/index{index}/{name}": text
        for cpu, shared in ((0, "0-1,4-5"), (2, "2,6"), (3, "3,7"))
        for index, level, kind, cpus in (
            (0, 1, "Data", str(cpu)),
            (1, 1, "Instruction", str(cpu)),
            (2, 2, "Unified", shared),
            (3, 3, "Instruction", "0-7"),
        )
        for name, text in (("level", level), ("type", kind), ("shared_cpu_list", cpus))
    },
    "bus/pci/devices/0000:3b:00.0/numa_node": "2",
    "bus/pci/devices/0000:5e:00.0/numa_node": "-1",
}
GPUS = [
    Gpu(address="0000:3b:00.0"),
    Gpu(address="0000:5e:00.0"),
    Gpu(address="0000:ff:00.0"),
    Gpu(),
]


def write_files(root, files):
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def read(root, gpus=()):
    return read_topology({}, root, lambda _: gpus, allowed={0, 1, 4})


def sets(*texts):
    return tuple(parse_numbers(text) for text in texts)


def test_the_kernel_s_files_tell_the_topology(tmp_path):
    """Nodes with their distances; sockets, cores and caches, each read from one of its CPUs."""
    write_files(tmp_path, FILES)

    expected = Topology(
        allowed=frozenset({0, 1, 4}),
        nodes={
            0: NumaNode(parse_numbers("0-1,4-5"), {0: 10, 2: 20, 3: 30}),
            2: NumaNode(parse_numbers("2-3,6-7"), {0: 20, 2: 10, 3: 31}),
            3: NumaNode(frozenset(), {0: 30, 2: 31, 3: 10}),
        },
        sockets=sets("0-1,4-5", "2-3,6-7"),
        cores=sets("0,4", "1,5", "2,6", "3,7"),
        complexes=sets("0-1,4-5", "2,6", "3,7"),
        gpus=[2, -1, -1, -1],
    )
    assert expected == read(tmp_path, GPUS)


def test_a_kernel_without_numa_has_one_node(tmp_path):
    """And tells nothing of where devices are."""
    files = {place: text for place, text in FILES.items() if "system/node" not in place}
    write_files(tmp_path, files | {"devices/system/cpu/online": "0-7"})

    assert {0: NumaNode(frozenset(range(8)), {0: 10})} == read(tmp_path).nodes


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ("core_siblings", ((), 4, 3)),
        ("thread_siblings", (2, (), 3)),
        ("/cache/", (2, 4, ())),
    ],
)
def test_what_a_virtual_machine_does_not_tell_is_empty(tmp_path, hidden, expected):
    """The rest is still of use."""
    write_files(tmp_path, {place: text for place, text in FILES.items() if hidden not in place})

    topology = read(tmp_path)

    groups = (topology.sockets, topology.cores, topology.complexes)
    assert expected == tuple(len(each) or () for each in groups)


def test_without_sys_there_is_no_topology(tmp_path):
    """It is not guessed."""
    with pytest.raises(FileNotFoundError, match="cpu/online"):
        read(tmp_path)


def test_this_machine_can_be_read():
    """Each CPU that this process may use is on a node."""
    topology = read_topology({})

    assert frozenset(os.sched_getaffinity(0)) == topology.allowed
    assert topology.allowed <= frozenset().union(*(each.cpus for each in topology.nodes.values()))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("5", [5]), ("0-3,8,10-11", [0, 1, 2, 3, 8, 10, 11])],
)
def test_lists_are_read_and_written_as_the_kernel_does(text, numbers):
    """Ranges include their ends; a node may have no CPU at all."""
    assert frozenset(numbers) == parse_numbers(f"{text}\n")
    assert text == write_numbers(reversed(numbers))


def test_other_lists_are_refused():
    """They are no kernel's."""
    with pytest.raises(ValueError, match="x"):
        parse_numbers("0-x")
