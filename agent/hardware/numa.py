"""Binds workers to the CPUs near their GPUs.

A worker runs on the CPUs of its GPU's NUMA node, so that copies between memory and GPU cross no
link between sockets. The modes and their meaning are those of ``torch.numa``.

Only CPUs are bound, not memory. By the kernel's default policy a page comes from the node of the
CPU that first touches it, and a worker is bound before it touches any page. If the memory of a node
is full, pages come from another node, while ``numactl --membind`` would end the worker. Pages that
a preloaded worker only reads stay where the preload server has them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from ...rendezvous.errors import UsageError
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..system.environ import inherited_environment
from .topology import Topology, read_topology, write_numbers

log = Log(__name__)


class AffinityMode(str, enum.Enum):
    """The CPUs to which a worker is bound. Its GPU is the one whose ordinal is its local rank."""

    NODE = "node"
    """All CPUs of the GPU's NUMA node."""
    SOCKET = "socket"
    """All CPUs of the socket that contains this NUMA node."""
    EXCLUSIVE = "exclusive"
    """Whole cores of this NUMA node, divided evenly among its GPUs."""
    CORE_COMPLEX = "core-complex"
    """CPUs of this NUMA node that share a last-level cache; another cache for each GPU if possible.
    """


class NumaOptions(NamedTuple):
    """How workers are bound to CPUs.

    Args:
        affinity_mode: The CPUs of each worker.
        should_fall_back_if_binding_fails: If a worker can't be bound, whether it runs on any CPU,
            with a warning; else that is an error, and no worker is started.
    """

    affinity_mode: AffinityMode
    should_fall_back_if_binding_fails: bool = False


class BindingError(UsageError):
    """A worker can't be bound to CPUs; the text gives the reason."""


class CpuBinding:
    """Chooses the workers' CPUs, at each start of workers, since a container's CPUs may change.

    Args:
        options: elrun's or torch's options.
        read: Returns the topology of this node.

    Raises:
        ValueError: The options name no mode.
    """

    def __init__(self, options: NumaOptions, read: Callable[[], Topology] | None = None) -> None:
        try:
            mode = options.affinity_mode
            self._mode = AffinityMode(getattr(mode, "value", mode))
            self._may_fall_back = bool(options.should_fall_back_if_binding_fails)
        except (AttributeError, ValueError) as error:
            known = ", ".join(mode.value for mode in AffinityMode)
            raise ValueError(
                f"numa_options={options!r}: give NumaOptions(affinity_mode=…) with one of {known}"
            ) from error
        self._read = read or (lambda: read_topology(inherited_environment()))
        self._has_warned = False

    def choose(self, local_world_size: int) -> Mapping[int, frozenset[int]]:
        """Return the CPUs of each local rank that is bound.

        Raises:
            BindingError: A worker can't be bound, and the options allow no other CPUs.
        """
        answers = self._answers(local_world_size)
        reasons = {rank: each for rank, each in answers.items() if isinstance(each, BindingError)}
        if reasons:
            self._report(reasons)
        return {rank: each for rank, each in answers.items() if not isinstance(each, BindingError)}

    def _answers(self, local_world_size: int) -> dict[int, frozenset[int] | BindingError]:
        ranks = range(local_world_size)
        try:
            topology = self._read()
        except (OSError, ValueError) as error:
            unknown = BindingError(f"the node's topology can't be read: {error}")
            return dict.fromkeys(ranks, unknown)
        return {rank: _answer(topology, self._mode, rank) for rank in ranks}

    def _report(self, reasons: Mapping[int, BindingError]) -> None:
        reason = next(iter(reasons.values()))
        ranks = f"local rank{'s' * (len(reasons) > 1)} {write_numbers(reasons)}"
        if not self._may_fall_back:
            raise BindingError(f"NUMA binding {self._mode.value} of {ranks}: {reason}") from reason
        if not self._has_warned:
            log.warning("NUMA binding %s: %s may use any CPU: %s", self._mode.value, ranks, reason)
            self._has_warned = True


def _answer(
    topology: Topology, mode: AffinityMode, local_rank: int
) -> frozenset[int] | BindingError:
    try:
        return choose_cpus(topology, mode, local_rank)
    except BindingError as error:
        return error


def choose_cpus(topology: Topology, mode: AffinityMode, local_rank: int) -> frozenset[int]:
    """Return the CPUs to which a worker is bound.

    Args:
        local_rank: The worker's local rank, which is the ordinal of its GPU.

    Raises:
        BindingError: There are no such CPUs.
    """
    number = _home_of(topology, local_rank)
    if mode is AffinityMode.SOCKET:
        return _usable(topology, _socket_of(topology, number), f"the socket of NUMA node {number}")
    near = _usable(topology, topology.nodes[number].cpus, f"NUMA node {number}")
    if mode is AffinityMode.NODE:
        return near
    neighbours = [gpu for gpu in range(len(topology.gpus)) if _home(topology, gpu) == number]
    place = neighbours.index(local_rank)
    if mode is AffinityMode.EXCLUSIVE:
        return _share(_parts(topology.cores, near), place, len(neighbours), number)
    complexes = _parts(topology.complexes, near)
    if not complexes:
        raise BindingError("the kernel does not tell which CPUs share a cache")
    # The largest first: a cpuset may leave only a part of the others.
    return sorted(complexes, key=len, reverse=True)[place % len(complexes)]


def _home_of(topology: Topology, gpu: int) -> int:
    if not topology.gpus:
        raise BindingError("no GPU is visible, and CPUs are chosen by what GPU they are near")
    if gpu >= len(topology.gpus):
        raise BindingError(f"its GPU would be {gpu}, and this process sees {len(topology.gpus)}")
    number = _home(topology, gpu)
    if number is None:
        raise BindingError(
            f"the kernel does not tell which of {len(topology.nodes)} NUMA nodes GPU {gpu} is at"
        )
    return number


def _home(topology: Topology, gpu: int) -> int | None:
    """Return the number of the NUMA node with the CPUs nearest to a GPU; None if unknown."""
    with_cpus = [number for number, node in topology.nodes.items() if node.cpus]
    number = topology.gpus[gpu]
    if number not in topology.nodes:
        return with_cpus[0] if len(with_cpus) == 1 else None
    distances = topology.nodes[number].distances
    return min(with_cpus, key=lambda other: distances[other], default=None)


def _socket_of(topology: Topology, number: int) -> frozenset[int]:
    cpus = topology.nodes[number].cpus
    return cpus.union(*(socket for socket in topology.sockets if socket & cpus))


def _usable(topology: Topology, cpus: frozenset[int], owner: str) -> frozenset[int]:
    usable = cpus & topology.allowed
    if not usable:
        raise BindingError(
            f"its GPU is at {owner}, whose CPUs {write_numbers(cpus)} are not among those of this "
            f"process ({write_numbers(topology.allowed)})"
        )
    return usable


def _parts(groups: Sequence[frozenset[int]], cpus: frozenset[int]) -> list[frozenset[int]]:
    """Return, for each group, its part that is among these CPUs."""
    return [part for group in groups if (part := group & cpus)]


def _share(cores: Sequence[frozenset[int]], place: int, shares: int, number: int) -> frozenset[int]:
    size, rest = divmod(len(cores), shares)
    if not size:
        raise BindingError(
            f"NUMA node {number} has {shares} GPUs, and this process may use {len(cores)} of its "
            "cores"
        )
    first = place * size + min(place, rest)
    return frozenset().union(*cores[first : first + size + (place < rest)])
