"""Which CPUs and GPUs of this host are near each other, read from ``/sys``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ...rendezvous.named_tuple import NamedTuple
from .gpus import Gpu, visible_gpus

_UNKNOWN = -1


class NumaNode(NamedTuple):
    """A NUMA node.

    Args:
        cpus: The node's CPUs; a node with memory only has none.
        distances: The distance to each NUMA node, by number; 10 is the node itself.
    """

    cpus: frozenset[int]
    distances: Mapping[int, int]


class Topology(NamedTuple):
    """The CPUs of a host in groups, and the NUMA nodes of its GPUs.

    Sockets, cores and complexes are in the order of their first CPUs.

    Args:
        allowed: CPUs that this process may use.
        nodes: NUMA nodes by number.
        sockets: The CPUs of each socket.
        cores: The CPUs, or hardware threads, of each core.
        complexes: The CPUs that share a last-level cache; empty if the kernel does not show them.
        gpus: Number of the NUMA node of each visible GPU, by ordinal; -1 if it is unknown.
    """

    allowed: frozenset[int]
    nodes: Mapping[int, NumaNode]
    sockets: Sequence[frozenset[int]]
    cores: Sequence[frozenset[int]]
    complexes: Sequence[frozenset[int]]
    gpus: Sequence[int]


def read_topology(
    variables: Mapping[str, str],
    root: Path = Path("/sys"),
    see_gpus: Callable[[Mapping[str, str]], Sequence[Gpu]] = visible_gpus,
    allowed: Collection[int] | None = None,
) -> Topology:
    """Return the topology of this host.

    Args:
        variables: The environment, for ``CUDA_VISIBLE_DEVICES`` and similar variables.
        root: The kernel's folder ``/sys``.
        allowed: CPUs that may be used; by default this thread's affinity.

    Raises:
        OSError: A file about the CPUs can't be read.
        ValueError: A file has unexpected content.
    """
    system = root / "devices/system"
    nodes = _read_nodes(system)
    cpus = frozenset().union(*(node.cpus for node in nodes.values()))
    folder = system / "cpu"
    return Topology(
        allowed=frozenset(os.sched_getaffinity(0) if allowed is None else allowed),
        nodes=nodes,
        sockets=_groups(cpus, lambda cpu: folder / f"cpu{cpu}/topology/core_siblings_list"),
        cores=_groups(cpus, lambda cpu: folder / f"cpu{cpu}/topology/thread_siblings_list"),
        complexes=_groups(cpus, lambda cpu: _last_level_cache(folder / f"cpu{cpu}/cache")),
        gpus=[_node_of(gpu, root) for gpu in see_gpus(variables)],
    )


def parse_numbers(text: str) -> frozenset[int]:
    """Return the numbers in a list of the kernel's, such as ``0-3,8``.

    Raises:
        ValueError: The text is no such list.
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def write_numbers(cpus: Iterable[int]) -> str:
    """Return numbers as the kernel writes them: ``0-3,8``."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _read_nodes(system: Path) -> dict[int, NumaNode]:
    try:
        numbers = sorted(parse_numbers((system / "node/online").read_text()))
    except FileNotFoundError:  # a kernel without NUMA
        return {0: NumaNode(parse_numbers((system / "cpu/online").read_text()), {0: 10})}
    nodes = {}
    for number in numbers:
        folder = system / f"node/node{number}"
        distances = map(int, (folder / "distance").read_text().split())
        nodes[number] = NumaNode(
            parse_numbers((folder / "cpulist").read_text()),
            dict(zip(numbers, distances, strict=True)),
        )
    return nodes


def _groups(
    cpus: Collection[int], file_of: Callable[[int], Path | None]
) -> tuple[frozenset[int], ...]:
    """Return the groups of CPUs, from a file for each CPU that lists its group."""
    groups = []
    left = set(cpus)
    while left:
        cpu = min(left)
        file = file_of(cpu)
        if file is None or not file.exists():  # as on some virtual machines
            return ()
        group = parse_numbers(file.read_text()) | {cpu}
        groups.append(group)
        left -= group
    return tuple(groups)


def _last_level_cache(folder: Path) -> Path | None:
    levels = {
        int((cache / "level").read_text()): cache / "shared_cpu_list"
        for cache in folder.glob("index[0-9]*")
        if (cache / "type").read_text().strip() in ("Unified", "Data")
    }
    return levels[max(levels)] if levels else None


def _node_of(gpu: Gpu, root: Path) -> int:
    if not gpu.address:
        return _UNKNOWN
    try:
        return int((root / f"bus/pci/devices/{gpu.address}/numa_node").read_text())
    except FileNotFoundError:  # a kernel without NUMA, or a container without this part of /sys
        return _UNKNOWN
