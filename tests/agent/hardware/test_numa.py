"""Which CPUs a worker is bound to, on machines as they are sold, rented and partitioned."""

import logging

import pytest
from elrun.agent.hardware.numa import (
    AffinityMode,
    BindingError,
    CpuBinding,
    NumaOptions,
    choose_cpus,
)
from elrun.agent.hardware.topology import NumaNode, Topology, parse_numbers, write_numbers

NODE, SOCKET, EXCLUSIVE, CORE_COMPLEX = AffinityMode


def recorded(nodes, sockets, cores, complexes, gpus, *, distances=None, allowed=None):
    """Return a topology whose sets of CPUs are written as the kernel writes them."""
    near = {number: {other: 10 + 11 * (other != number) for other in nodes} for number in nodes}
    return Topology(
        allowed=parse_numbers(allowed or ",".join(filter(None, nodes.values()))),
        nodes={
            number: NumaNode(parse_numbers(cpus), (distances or near)[number])
            for number, cpus in nodes.items()
        },
        sockets=[parse_numbers(each) for each in sockets],
        cores=[parse_numbers(each) for each in cores],
        complexes=[parse_numbers(each) for each in complexes],
        gpus=gpus,
    )


WORKSTATION = recorded(
    nodes={0: "0-7"},
    sockets=["0-7"],
    cores=["0,4", "1,5", "2,6", "3,7"],
    complexes=["0-7"],
    gpus=[-1, -1],
)
TWO_SOCKETS = {
    "nodes": {0: "0-7,16-23", 1: "8-15,24-31"},
    "sockets": ["0-7,16-23", "8-15,24-31"],
    "cores": [f"{core},{core + 16}" for core in range(16)],
    "complexes": ["0-7,16-23", "8-15,24-31"],
    "gpus": [0, 0, 1, 1],
}
SUB_NUMA_CLUSTERS = {
    "nodes": {0: "0-3", 1: "4-7", 2: "8-11", 3: "12-15"},
    "sockets": ["0-7", "8-15"],
    "cores": [str(core) for core in range(16)],
    "complexes": ["0-3", "4-7", "8-11", "12-15"],
    "gpus": [1, 3],
}
CHIPLETS = {
    "nodes": {0: "0-23", 1: "24-47"},
    "sockets": ["0-23", "24-47"],
    "cores": [str(core) for core in range(48)],
    "complexes": ["0-7", "8-15", "16-23", "24-31", "32-39", "40-47"],
    "gpus": [1, 0, 1, 0],
}
# Node 2 is memory on the bus (CXL), node 3 memory in the package of node 1 (HBM).
MEMORY_NODES = {
    "nodes": {0: "0-3", 1: "4-7", 2: "", 3: ""},
    "sockets": ["0-3", "4-7"],
    "cores": [str(core) for core in range(8)],
    "complexes": ["0-3", "4-7"],
    "gpus": [0, 2, 3],
    "distances": {
        0: {0: 10, 1: 21, 2: 24, 3: 23},
        1: {0: 21, 1: 10, 2: 34, 3: 13},
        2: {0: 24, 1: 34, 2: 10, 3: 36},
        3: {0: 23, 1: 13, 2: 36, 3: 10},
    },
}


def choices(topology, mode):
    """Return what each GPU's worker is bound to, as the kernel would write it."""
    return [write_numbers(choose_cpus(topology, mode, gpu)) for gpu in range(len(topology.gpus))]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (NODE, ["0-7", "0-7"]),
        (SOCKET, ["0-7", "0-7"]),
        (EXCLUSIVE, ["0-1,4-5", "2-3,6-7"]),
        (CORE_COMPLEX, ["0-7", "0-7"]),
    ],
)
def test_one_numa_node_has_all_gpus(mode, expected):
    """There the kernel says -1; the threads of a core stay together."""
    assert expected == choices(WORKSTATION, mode)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (NODE, ["0-7,16-23", "0-7,16-23", "8-15,24-31", "8-15,24-31"]),
        (SOCKET, ["0-7,16-23", "0-7,16-23", "8-15,24-31", "8-15,24-31"]),
        (EXCLUSIVE, ["0-3,16-19", "4-7,20-23", "8-11,24-27", "12-15,28-31"]),
        (CORE_COMPLEX, ["0-7,16-23", "0-7,16-23", "8-15,24-31", "8-15,24-31"]),
    ],
)
def test_two_sockets_keep_their_workers(mode, expected):
    """Each worker runs beside its GPU."""
    assert expected == choices(recorded(**TWO_SOCKETS), mode)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (NODE, ["4-7", "12-15"]),
        (SOCKET, ["0-7", "8-15"]),
        (EXCLUSIVE, ["4-7", "12-15"]),
        (CORE_COMPLEX, ["4-7", "12-15"]),
    ],
)
def test_a_socket_may_be_several_nodes(mode, expected):
    """With sub-NUMA clustering, or several nodes per socket."""
    assert expected == choices(recorded(**SUB_NUMA_CLUSTERS), mode)


def test_a_node_may_be_several_sockets():
    """Where the firmware interleaves the memory of all."""
    interleaved = recorded(**{**TWO_SOCKETS, "nodes": {0: "0-31"}, "gpus": [0]})

    assert ["0-31"] == choices(interleaved, SOCKET)


def test_workers_get_core_complexes_of_their_own():
    """Those of one node in the order of their GPUs, which needn't be that of the nodes."""
    assert ["24-31", "0-7", "32-39", "8-15"] == choices(recorded(**CHIPLETS), CORE_COMPLEX)


def test_core_complexes_are_shared_when_they_are_fewer():
    """The second time around."""
    crowded = recorded(**{**CHIPLETS, "gpus": [0, 0, 0, 0]})

    assert ["0-7", "8-15", "16-23", "0-7"] == choices(crowded, CORE_COMPLEX)


def test_the_largest_core_complexes_come_first():
    """A cpuset may have left little of the others."""
    cut = recorded(**CHIPLETS, allowed="0-3,8-15,16-17,24-47")

    assert ["24-31", "8-15", "32-39", "0-3"] == choices(cut, CORE_COMPLEX)


def test_odd_cores_go_to_the_first_gpus():
    """Eight cores for three: 3, 3 and 2."""
    three = recorded(**{**TWO_SOCKETS, "gpus": [0, 0, 0]})

    assert ["0-2,16-18", "3-5,19-21", "6-7,22-23"] == choices(three, EXCLUSIVE)


def test_a_node_without_cpus_borrows_those_nearest():
    """Memory on the bus or in a package is a NUMA node, too, and a GPU may be counted to it."""
    assert ["0-3", "0-3", "4-7"] == choices(recorded(**MEMORY_NODES), NODE)


def test_gpus_that_are_neighbours_by_borrowing_share():
    """Exclusive is exclusive, whatever the node that the kernel names."""
    assert ["0-1", "2-3", "4-7"] == choices(recorded(**MEMORY_NODES), EXCLUSIVE)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (NODE, ["4-7,20-23", "4-7,20-23", "8-10,24", "8-10,24"]),
        (SOCKET, ["4-7,20-23", "4-7,20-23", "8-10,24", "8-10,24"]),
        (EXCLUSIVE, ["4-5,20-21", "6-7,22-23", "8-9,24", "10"]),
        (CORE_COMPLEX, ["4-7,20-23", "4-7,20-23", "8-10,24", "8-10,24"]),
    ],
)
def test_what_a_cpuset_hides_is_not_used(mode, expected):
    """A scheduler gave this job some of the cores, of one core only one thread."""
    cut = recorded(**TWO_SOCKETS, allowed="4-7,20-23,8-10,24")

    assert expected == choices(cut, mode)


HALF_HIDDEN = recorded(**TWO_SOCKETS, allowed="0-7")
HIDDEN = (
    "its GPU is at NUMA node 1, whose CPUs 8-15,24-31 are not among those of this process (0-7)"
)


@pytest.mark.parametrize(
    ("topology", "mode", "local_rank", "reason"),
    [
        (
            recorded(**{**TWO_SOCKETS, "gpus": []}),
            NODE,
            0,
            "no GPU is visible, and CPUs are chosen by what GPU they are near",
        ),
        (
            recorded(**TWO_SOCKETS),
            NODE,
            4,
            "its GPU would be 4, and this process sees 4",
        ),
        (
            recorded(**{**TWO_SOCKETS, "gpus": [0, -1]}),
            NODE,
            1,
            "the kernel does not tell which of 2 NUMA nodes GPU 1 is at",
        ),
        (
            HALF_HIDDEN,
            NODE,
            2,
            HIDDEN,
        ),
        (
            HALF_HIDDEN,
            SOCKET,
            2,
            HIDDEN.replace("NUMA", "the socket of NUMA"),
        ),
        (
            recorded(**TWO_SOCKETS, allowed="0,16,8-15"),
            EXCLUSIVE,
            1,
            "NUMA node 0 has 2 GPUs, and this process may use 1 of its cores",
        ),
        (
            recorded(**{**TWO_SOCKETS, "complexes": []}),
            CORE_COMPLEX,
            0,
            "the kernel does not tell which CPUs share a cache",
        ),
    ],
)
def test_why_a_worker_cannot_be_bound(topology, mode, local_rank, reason):
    """The sentence names the GPU, the node and the CPUs."""
    with pytest.raises(BindingError) as caught:
        choose_cpus(topology, mode, local_rank)

    assert reason == str(caught.value)


def test_workers_that_cannot_be_bound_are_told_of_once(caplog):
    """However often the group restarts; the others are bound."""
    options = NumaOptions(NODE, should_fall_back_if_binding_fails=True)
    binding = CpuBinding(options, lambda: HALF_HIDDEN)

    chosen = [binding.choose(4), binding.choose(4)]

    assert [{0: frozenset(range(8)), 1: frozenset(range(8))}] * 2 == chosen
    expected = f"NUMA binding node: local ranks 2-3 may use any CPU: {HIDDEN}"
    assert [("elrun.agent.hardware.numa", logging.WARNING, expected)] == caplog.record_tuples


def test_binding_that_must_succeed_is_an_error():
    """As with torch's options, whose default it is."""
    binding = CpuBinding(NumaOptions(NODE), lambda: HALF_HIDDEN)

    with pytest.raises(BindingError) as caught:
        binding.choose(3)

    assert f"NUMA binding node of local rank 2: {HIDDEN}" == str(caught.value)


def test_a_machine_that_cannot_be_read_binds_nobody(caplog):
    """Sandboxes hide /sys."""

    def read():
        raise FileNotFoundError(2, "No such file or directory", "/sys/devices/system/cpu/online")

    options = NumaOptions(NODE, should_fall_back_if_binding_fails=True)

    assert {} == CpuBinding(options, read).choose(2)
    assert "local ranks 0-1 may use any CPU: the node's topology can't be read" in caplog.text


@pytest.mark.parametrize("options", ["node", NumaOptions("nodes"), 3])
def test_other_options_are_refused(options):
    """Before anything starts."""
    with pytest.raises(ValueError, match="give NumaOptions.*node, socket, exclusive, core-complex"):
        CpuBinding(options)


def test_torch_s_own_options_are_taken():
    """A program that moves over keeps its import."""

    class AffinityModeOfTorch:
        value = "socket"

    class OptionsOfTorch:
        affinity_mode = AffinityModeOfTorch()
        should_fall_back_if_binding_fails = False

    binding = CpuBinding(OptionsOfTorch(), lambda: recorded(**SUB_NUMA_CLUSTERS))

    assert {0: parse_numbers("0-7"), 1: parse_numbers("8-15")} == binding.choose(2)
