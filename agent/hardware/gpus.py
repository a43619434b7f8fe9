"""The GPUs that a worker sees, in torch's order, without torch.

The ``read_`` functions return the machine's GPUs; the ``visible`` functions apply the environment's
variables to them. The order is that of the PCI bus. CUDA's order is the same unless a node has
several models of GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from ...rendezvous.named_tuple import NamedTuple

NVIDIA_VARIABLE = "CUDA_VISIBLE_DEVICES"
ROCR_VARIABLE = "ROCR_VISIBLE_DEVICES"
HIP_VARIABLE = "HIP_VISIBLE_DEVICES"

_MAX_DIGITS = 9


class Gpu(NamedTuple):
    """A GPU.

    Args:
        id: ``GPU-…``; empty if it is unknown.
        address: Address on the PCI bus, as in ``/sys/bus/pci/devices``; empty if it is unknown.
    """

    id: str = ""
    address: str = ""


def visible_gpus(variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return the GPUs that a worker sees, as torch numbers them.

    Args:
        variables: The environment, for ``CUDA_VISIBLE_DEVICES`` and similar variables.
    """
    return visible_nvidia(read_nvidia(), variables) or visible_amd(read_amd(), variables)


def visible_nvidia(gpus: Sequence[Gpu], variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return the NVIDIA GPUs that a worker sees."""
    return visible(gpus, variables.get(NVIDIA_VARIABLE))


def visible_amd(gpus: Sequence[Gpu], variables: Mapping[str, str]) -> Sequence[Gpu]:
    """Return the AMD GPUs that a worker sees: ROCr's variable selects first, and then HIP's."""
    left = visible(gpus, variables.get(ROCR_VARIABLE))
    return visible(left, variables.get(HIP_VARIABLE, variables.get(NVIDIA_VARIABLE)))


def visible(gpus: Sequence[Gpu], choice: str | None) -> Sequence[Gpu]:
    """Return the GPUs that a variable selects, in its order, by the rules of the CUDA driver.

    The list ends at the first entry that is no GPU (-1, an unknown or ambiguous id). If a GPU is
    named twice, no GPU is visible. Of several MIG instances a process sees only the first.

    Args:
        choice: The variable's value: ordinals, or prefixes of ids; None if it isn't set.
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
    """Return, for people, why a variable selects no GPU; see ``visible``."""
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
    """Return the NVIDIA GPUs, from the driver's library or else from the kernel's files."""
    from .drivers import nvml_gpus  # loads the driver's library

    gpus = nvml_gpus()
    return read_nvidia_files() if gpus is None else gpus


def read_nvidia_files(root: Path = Path("/")) -> Sequence[Gpu]:
    """Return the NVIDIA GPUs that the kernel's files show, for nodes without NVML.

    Args:
        root: The folder with ``dev`` and ``proc``.
    """
    numbers = [each.name.removeprefix("nvidia") for each in root.glob("dev/nvidia*")]
    present = {number for number in numbers if number.isdecimal()}
    gpus = []
    for information in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        fields = read_fields(information, ":")
        # A container may have fewer device files than the driver lists GPUs.
        if fields.get("Device Minor") in present:
            gpus.append(Gpu(fields.get("GPU UUID", ""), information.parent.name))
    return gpus if len(gpus) == len(present) else [Gpu()] * len(present)


def read_amd(root: Path = Path("/")) -> Sequence[Gpu]:
    """Return the AMD GPUs that the kernel's driver shows to this process.

    Args:
        root: The folder with ``sys``.
    """
    gpus = []
    nodes = root.glob("sys/class/kfd/kfd/topology/nodes/[0-9]*")
    for node in sorted(nodes, key=lambda each: int(each.name)):
        fields = read_fields(node / "properties", " ")
        if fields.get("simd_count", "0") == "0":
            continue  # the node of a CPU
        unique_id = fields.get("unique_id", "0")
        gpus.append(
            Gpu(f"GPU-{int(unique_id):016x}" if unique_id.isdecimal() else "", _bus(fields))
        )
    return gpus


def read_fields(path: Path, separator: str) -> dict[str, str]:
    """Return the ``name<separator>value`` lines of a file; none if the file can't be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.partition(separator) for line in lines)
    return {name.strip(): value.strip() for name, _, value in parts}


def _bus(fields: Mapping[str, str]) -> str:
    try:
        domain, place = int(fields["domain"]), int(fields["location_id"])
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
