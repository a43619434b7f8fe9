"""Counts the workers that ``--nproc-per-node auto|gpu|cpu|xpu`` means on this node, without torch.

The numbers are those of ``torch.cuda.device_count()``, ``torch.xpu.device_count()`` and the
process's CPU affinity. Where a container's quota is smaller than that, it counts, unlike in torch:
64 workers that share the time of four CPUs are slower than four.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...rendezvous.named_tuple import NamedTuple
from .cpus import allowed_cpus, cpu_quota
from .gpus import (
    HIP_VARIABLE,
    NVIDIA_VARIABLE,
    ROCR_VARIABLE,
    Gpu,
    read_amd,
    read_fields,
    read_nvidia,
    visible,
    visible_amd,
    visible_nvidia,
    why_none,
)


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a node on which workers can run.

    Args:
        nvidia: The NVIDIA GPUs, by ordinal.
        amd: The AMD GPUs, by ordinal.
        xpu: Number of Intel GPUs.
        cpus: Number of CPUs that this process may run on.
        quota: How many CPUs' time its cgroup may use.
    """

    nvidia: Sequence[Gpu] = ()
    amd: Sequence[Gpu] = ()
    xpu: int = 0
    cpus: int = 1
    quota: float = math.inf

    @property
    def usable_cpus(self) -> int:
        """How many workers can run at once: one at least."""
        return max(1, math.floor(min(self.cpus, self.quota)))


class Count(NamedTuple):
    """How many workers one node gets.

    Args:
        notice: Why GPUs or CPUs of this node were not counted; empty if none were left out.
    """

    workers: int
    notice: str = ""


def count_workers(
    kind: str, variables: Mapping[str, str], read: Callable[[str], Devices] | None = None
) -> Count:
    """Return how many workers one node gets.

    Args:
        kind: gpu, xpu (Intel's GPUs), cpu, or auto: the first of these three that the node has.
        variables: The environment, for ``CUDA_VISIBLE_DEVICES`` and similar variables.
        read: Reads the devices of a kind; by default those of this machine.

    Raises:
        ValueError: The node has no device of the kind; the message gives the reason.
    """
    devices = (read or read_devices)(kind)
    if kind == "cpu":
        return _count_cpus(devices)
    gpus = len(visible_nvidia(devices.nvidia, variables) or visible_amd(devices.amd, variables))
    if kind != "xpu" and gpus:
        return Count(gpus)
    if kind == "auto":
        return _count_others(devices, variables)
    if kind == "xpu" and devices.xpu:
        return Count(devices.xpu)
    raise ValueError(_nothing_found(kind, devices, variables))


def _count_cpus(devices: Devices) -> Count:
    workers = devices.usable_cpus
    if workers == devices.cpus:
        return Count(workers)
    return Count(
        workers, f"the cgroup has the time of {devices.quota:g} of {devices.cpus} CPUs: {workers}"
    )


def _count_others(devices: Devices, variables: Mapping[str, str]) -> Count:
    hidden = _what_hides(devices, variables)
    if devices.xpu:
        return Count(devices.xpu)
    workers, quota = _count_cpus(devices)
    named = f"{workers} workers, one for each CPU" if workers > 1 else "one worker"
    said = [each for each in (hidden, quota) if each]
    return Count(workers, f"{'; '.join(said)}; auto stands for {named}" if said else "")


def _nothing_found(kind: str, devices: Devices, variables: Mapping[str, str]) -> str:
    if kind == "xpu":
        return "this node has no Intel GPU; give a number, or auto to fall back on the CPUs"
    return (
        _what_hides(devices, variables)
        or "this node has no GPU; give a number, or auto to fall back on the CPUs"
    )


def _what_hides(devices: Devices, variables: Mapping[str, str]) -> str:
    """Return which variable hides all GPUs of the node, and why; "" if the node has no GPU."""
    gpus: Sequence[Gpu] = devices.nvidia or devices.amd
    names: tuple[str, ...] = (NVIDIA_VARIABLE,)
    if not devices.nvidia:
        hip = HIP_VARIABLE if HIP_VARIABLE in variables else NVIDIA_VARIABLE
        names = (ROCR_VARIABLE, hip)
    left = gpus
    for name in names:
        before, left = left, visible(left, variables.get(name))
        if before and not left:
            number = "the GPU" if len(gpus) == 1 else f"the {len(gpus)} GPUs"
            reason = why_none(before, variables[name])
            return f"{name}={variables[name]!r} hides {number} of this node: {reason}"
    return ""


def read_devices(kind: str) -> Devices:
    """Return this machine's devices of a kind; of several kinds for auto."""
    cpus, quota = allowed_cpus(), cpu_quota()
    if kind == "cpu":
        return Devices(cpus=cpus, quota=quota)
    if kind == "xpu":
        return Devices(xpu=_read_xpu(), cpus=cpus, quota=quota)
    nvidia = read_nvidia()
    amd = () if nvidia else read_amd()
    xpu = _read_xpu() if kind == "auto" and not nvidia and not amd else 0
    return Devices(nvidia, amd, xpu, cpus, quota)


def _read_xpu() -> int:
    from .drivers import level_zero_count  # loads the driver's library

    count = level_zero_count()
    return count_xpu_files() if count is None else count


def count_xpu_files(root: Path = Path("/")) -> int:
    """Return the number of Intel's discrete GPUs, for nodes without the Level Zero library.

    Args:
        root: The folder with ``sys``.
    """
    count = 0
    for card in root.glob("sys/class/drm/renderD*"):
        device = card / "device"
        fields = read_fields(device / "uevent", "=")
        is_integrated = fields.get("PCI_SLOT_NAME", "").endswith(":00:02.0")
        if fields.get("DRIVER") in ("i915", "xe") and not is_integrated:
            count += 1
    return count
