"""Which GPUs this process sees, in their order, without torch.

Readers return what the machine says; functions beside them decide what the variables leave of it.
The order is that of the PCI bus, which is CUDA's own unless a node mixes models of GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

NVIDIA_VARIABLE = "CUDA_VISIBLE_DEVICES"
ROCR_VARIABLE = "ROCR_VISIBLE_DEVICES"
HIP_VARIABLE = "HIP_VISIBLE_DEVICES"

_MAX_DIGITS = 9


class Gpu(NamedTuple):
    """A GPU.

    Args:
        id: ``GPU-…``; empty where it is unknown.
        address: On the PCI bus, as ``/sys/bus/pci/devices`` has it; empty where it is unknown.
    """

    id: str = ""
    address: str = ""


def visible_gpus(variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return the GPUs that a worker sees, as torch numbers them.

    Args:
        variables: The environment, for ``CUDA_VISIBLE_DEVICES`` and its like.
    """
    return visible_nvidia(read_nvidia(), variables) or visible_amd(read_amd(), variables)


def visible_nvidia(gpus: Sequence[Gpu], variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return those of the NVIDIA GPUs that a worker sees."""
    return visible(gpus, variables.get(NVIDIA_VARIABLE))


def visible_amd(gpus: Sequence[Gpu], variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return those of the AMD GPUs that a worker sees: ROCr leaves some, HIP chooses of them."""
    left = visible(gpus, variables.get(ROCR_VARIABLE))
    return visible(left, variables.get(HIP_VARIABLE, variables.get(NVIDIA_VARIABLE)))


def visible(gpus: Sequence[Gpu], choice: str | None) -> Sequence[Gpu]:
    """Return the GPUs that a variable leaves, in its order, as the CUDA driver reads it.

    The list ends at the first entry that is no GPU (-1, an unknown or ambiguous id); a GPU that is
    named twice empties it. Of MIG instances a process sees the first only.

    Args:
        gpus: All of them.
        choice: The variable's value: ordinals, or beginnings of ids; None where it isn't set.
    """
    if choice is None:
        return gpus
    entries = choice.split(",")
    if choice.startswith("MIG-"):
        return [Gpu(entries[0])] if gpus else []
    by_id = choice.startswith("GPU-")
    if by_id and not any(gpu.id for gpu in gpus):
        return [Gpu(entry) for entry in entries[: len(gpus)]]
    chosen: list[int] = []
    for entry in entries:
        ordinal = _by_id(entry, gpus) if by_id else _leading_number(entry)
        if ordinal in chosen:
            return []
        if ordinal < 0:
            break
        chosen.append(ordinal)
    return [gpus[ordinal] for ordinal in takewhile(lambda each: each < len(gpus), chosen)]


def why_none(gpus: Sequence[Gpu], choice: str) -> str:
    """Return why a variable leaves none of the GPUs, for people; see ``visible``."""
    entries = choice.split(",")
    first = entries[0].strip()
    if not first:
        return "it names none"
    ordinal = _by_id(entries[0], gpus) if choice.startswith("GPU-") else _leading_number(first)
    if ordinal < 0:
        is_number = first.lstrip("+-").isdecimal()
        return f"{first} is none of them" if is_number else f"{first!r} is no number or id of a GPU"
    if ordinal >= len(gpus):
        return f"there is no GPU {ordinal}"
    return "it names one twice"


def read_nvidia() -> Sequence[Gpu]:
    """Return the NVIDIA GPUs, by the driver's library or else by the kernel's files."""
    from .drivers import nvml_gpus  # noqa: PLC0415  loads the driver's library

    gpus = nvml_gpus()
    return read_nvidia_files() if gpus is None else gpus


def read_nvidia_files(root: Path = Path("/")) -> Sequence[Gpu]:
    """Return the NVIDIA GPUs that the kernel's files show; where NVML is missing.

    Args:
        root: Where ``dev`` and ``proc`` are.
    """
    numbers = [each.name.removeprefix("nvidia") for each in root.glob("dev/nvidia*")]
    present = {number for number in numbers if number.isdecimal()}
    gpus = []
    for information in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        said = read_fields(information, ":")
        # A container may be given fewer devices than the driver tells about.
        if said.get("Device Minor") in present:
            gpus.append(Gpu(said.get("GPU UUID", ""), information.parent.name))
    return gpus if len(gpus) == len(present) else [Gpu()] * len(present)


def read_amd(root: Path = Path("/")) -> Sequence[Gpu]:
    """Return the AMD GPUs that the kernel's driver shows to this process.

    Args:
        root: Where ``sys`` is.
    """
    gpus = []
    nodes = root.glob("sys/class/kfd/kfd/topology/nodes/[0-9]*")
    for node in sorted(nodes, key=lambda each: int(each.name)):
        said = read_fields(node / "properties", " ")
        if said.get("simd_count", "0") == "0":
            continue  # the node of a CPU
        unique_id = said.get("unique_id", "0")
        gpus.append(Gpu(f"GPU-{int(unique_id):016x}" if unique_id.isdecimal() else "", _bus(said)))
    return gpus


def read_fields(path: Path, separator: str) -> dict[str, str]:
    """Return the ``name<separator>value`` lines of a file; none of one that can't be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.partition(separator) for line in lines)
    return {name.strip(): value.strip() for name, _, value in parts}


def _bus(said: Mapping[str, str]) -> str:
    try:
        domain, place = int(said["domain"]), int(said["location_id"])
    except (KeyError, ValueError):
        return ""
    return f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"


def _by_id(entry: str, gpus: Sequence[Gpu]) -> int:
    matches = [ordinal for ordinal, gpu in enumerate(gpus) if gpu.id.startswith(entry)]
    return matches[0] if entry and len(matches) == 1 else -1


def _leading_number(entry: str) -> int:
    text = entry.strip()
    sign = text[:1] if text[:1] in ("+", "-") else ""
    digits = text[len(sign) :]
    length = len(digits) - len(digits.lstrip("0123456789"))
    return int(sign + digits[: min(length, _MAX_DIGITS)]) if length else -1
