"""Counts what ``--nproc-per-node auto|gpu|cpu|xpu`` stands for on this node, without torch.

The numbers are torch's: what ``torch.cuda.device_count()``, ``torch.xpu.device_count()`` and the
process's CPU affinity say. A CPU quota of a container is not looked at, as torch doesn't either.
Readers return what the machine says; functions beside them decide what the variables leave of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

NVIDIA_VARIABLE = "CUDA_VISIBLE_DEVICES"
ROCR_VARIABLE = "ROCR_VISIBLE_DEVICES"
HIP_VARIABLE = "HIP_VISIBLE_DEVICES"

_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Devices:
    """What a node can run workers on.

    Args:
        nvidia: Ids of the NVIDIA GPUs (``GPU-…``, or empty where unknown), by ordinal.
        amd: The same for AMD GPUs.
        xpu: Number of Intel GPUs.
        cpus: Number of CPUs that this process may use.
    """

    nvidia: Sequence[str] = ()
    amd: Sequence[str] = ()
    xpu: int = 0
    cpus: int = 1


def count_workers(
    kind: str, variables: Mapping[str, str], read: Callable[[str], Devices] | None = None
) -> int:
    """Return how many workers one node gets.

    Args:
        kind: gpu, xpu (Intel's GPUs), cpu, or auto: the first of these three that there is.
        variables: The environment, for ``CUDA_VISIBLE_DEVICES`` and its like.
        read: What reads the devices of a kind; by default from this machine.

    Raises:
        ValueError: There is no device of the kind; the message says what was looked at.
    """
    devices = (read or read_devices)(kind)
    if kind == "cpu":
        return devices.cpus
    gpus = count_nvidia(devices.nvidia, variables) or count_amd(devices.amd, variables)
    if kind == "auto":
        return gpus or devices.xpu or devices.cpus
    found = devices.xpu if kind == "xpu" else gpus
    if not found:
        raise ValueError(_nothing_found(kind, devices, variables))
    return found


def count_nvidia(ids: Sequence[str], variables: Mapping[str, str]) -> int:
    """Return how many NVIDIA GPUs a worker sees."""
    return len(visible(ids, variables.get(NVIDIA_VARIABLE)))


def count_amd(ids: Sequence[str], variables: Mapping[str, str]) -> int:
    """Return how many AMD GPUs a worker sees: ROCr leaves some, HIP chooses among them."""
    left = visible(ids, variables.get(ROCR_VARIABLE))
    return len(visible(left, variables.get(HIP_VARIABLE, variables.get(NVIDIA_VARIABLE))))


def visible(ids: Sequence[str], choice: str | None) -> Sequence[str]:
    """Return the devices that a variable leaves, in its order, as the CUDA driver reads it.

    The list ends at the first entry that is no device (-1, an unknown or ambiguous id); a device
    that is named twice empties it. Of MIG instances a process sees the first only.

    Args:
        ids: All devices.
        choice: The variable's value: ordinals, or beginnings of ids; None where it isn't set.
    """
    if choice is None:
        return ids
    entries = choice.split(",")
    if choice.startswith("MIG-"):
        return entries[:1] if ids else []
    by_id = choice.startswith("GPU-")
    if by_id and not any(ids):
        return ids[: len(entries)]
    chosen: list[int] = []
    for entry in entries:
        ordinal = _by_id(entry, ids) if by_id else _leading_number(entry)
        if ordinal in chosen:
            return []
        if ordinal < 0:
            break
        chosen.append(ordinal)
    return [ids[ordinal] for ordinal in takewhile(lambda each: each < len(ids), chosen)]


def _by_id(entry: str, ids: Sequence[str]) -> int:
    matches = [ordinal for ordinal, each in enumerate(ids) if each.startswith(entry)]
    return matches[0] if entry and len(matches) == 1 else -1


def _leading_number(entry: str) -> int:
    text = entry.strip()
    sign = text[:1] if text[:1] in ("+", "-") else ""
    digits = text[len(sign) :]
    length = len(digits) - len(digits.lstrip("0123456789"))
    return int(sign + digits[: min(length, _MAX_DIGITS)]) if length else -1


def _nothing_found(kind: str, devices: Devices, variables: Mapping[str, str]) -> str:
    if kind == "xpu":
        return "this node has no Intel GPU; give a number, or auto to fall back on the CPUs"
    hidden = [
        f"{name}={variables[name]!r}"
        for name in (NVIDIA_VARIABLE, ROCR_VARIABLE, HIP_VARIABLE)
        if name in variables
    ]
    present = len(devices.nvidia) or len(devices.amd)
    if present and hidden:
        return f"{' and '.join(hidden)} hides the {present} GPU(s) of this node"
    return "this node has no GPU; give a number, or auto to fall back on the CPUs"


def read_devices(kind: str) -> Devices:
    """Return this machine's devices, as far as the kind asks for them."""
    cpus = len(os.sched_getaffinity(0))
    if kind == "cpu":
        return Devices(cpus=cpus)
    if kind == "xpu":
        return Devices(xpu=_read_xpu(), cpus=cpus)
    nvidia = _read_nvidia()
    amd = () if nvidia else read_amd()
    xpu = _read_xpu() if kind == "auto" and not nvidia and not amd else 0
    return Devices(nvidia, amd, xpu, cpus)


def _read_nvidia() -> Sequence[str]:
    from .drivers import nvml_ids  # noqa: PLC0415  loads the driver's library

    ids = nvml_ids()
    return read_nvidia_files() if ids is None else ids


def read_nvidia_files(root: Path = Path("/")) -> Sequence[str]:
    """Return the ids of the NVIDIA GPUs that the kernel's files show; where NVML is missing.

    Args:
        root: Where ``dev`` and ``proc`` are.
    """
    nodes = [each for each in root.glob("dev/nvidia*") if each.name[len("nvidia") :].isdecimal()]
    ids = []
    for information in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        fields = _fields(information, ":")
        ids.append(fields.get("GPU UUID", ""))
    # A container may be given fewer devices than the driver tells about.
    return ids if len(ids) == len(nodes) else [""] * len(nodes)


def read_amd(root: Path = Path("/")) -> Sequence[str]:
    """Return the ids of the AMD GPUs that the kernel's driver shows to this process.

    Args:
        root: Where ``sys`` is.
    """
    ids = []
    nodes = root.glob("sys/class/kfd/kfd/topology/nodes/[0-9]*")
    for node in sorted(nodes, key=lambda each: int(each.name)):
        fields = _fields(node / "properties", " ")
        if fields.get("simd_count", "0") == "0":
            continue  # the node of a CPU
        unique_id = fields.get("unique_id", "0")
        ids.append(f"GPU-{int(unique_id):016x}" if unique_id.isdecimal() else "")
    return ids


def _read_xpu() -> int:
    from .drivers import level_zero_count  # noqa: PLC0415  loads the driver's library

    count = level_zero_count()
    return count_xpu_files() if count is None else count


def count_xpu_files(root: Path = Path("/")) -> int:
    """Return the number of Intel's discrete GPUs; where the Level Zero library is missing.

    Args:
        root: Where ``sys`` is.
    """
    count = 0
    for card in root.glob("sys/class/drm/renderD*"):
        device = card / "device"
        fields = _fields(device / "uevent", "=")
        is_integrated = fields.get("PCI_SLOT_NAME", "").endswith(":00:02.0")
        if fields.get("DRIVER") in ("i915", "xe") and not is_integrated:
            count += 1
    return count


def _fields(path: Path, separator: str) -> dict[str, str]:
    """Return the ``name<separator>value`` lines of a file; none of one that can't be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.partition(separator) for line in lines)
    return {name.strip(): value.strip() for name, _, value in parts}
