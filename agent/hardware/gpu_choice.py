"""``--gpus``: which of a node's GPUs its workers see, and the variables that hide the others.

Numbers count the GPUs that elrun itself sees: what a scheduler or the user has hidden before stays
hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .devices import Devices
from .gpus import (
    HIP_VARIABLE,
    NVIDIA_VARIABLE,
    ROCR_VARIABLE,
    Gpu,
    visible,
    visible_amd,
    visible_nvidia,
)

INTEL_VARIABLE = "ZE_AFFINITY_MASK"
MIG = "MIG-"

_ENTRY = re.compile(r"\d{1,9}|GPU-[0-9A-Za-z-]+|MIG-[0-9A-Za-z/-]+")
_FORM = "give numbers, ids (GPU-…) or MIG names, as in 0,2, or a list for each node: n1:0,1;n2:2,3"


def check_choice(text: str) -> None:
    """Make sure that a text is a list of GPUs, or one for each node.

    Raises:
        ValueError: It is neither, or names one twice.
    """
    for name, entries in _lists(text).items():
        if not entries or not all(map(_ENTRY.fullmatch, entries)):
            raise ValueError(_FORM)
        twice = [each for each in entries if entries.count(each) > 1]
        if twice:
            where = f" for {name}" if name else ""
            raise ValueError(f"{twice[0]} stands twice{where}; name each GPU once")


def choice_of(text: str, node: str) -> list[str]:
    """Return the GPUs that a text names for a node.

    Args:
        text: What ``check_choice`` has taken.

    Raises:
        ValueError: The text has lists for other nodes only.
    """
    lists = _lists(text)
    for name in ("", node, node.partition(".")[0]):
        if name in lists:
            return lists[name]
    raise ValueError(f"it has no list for this node, {node}; it names {', '.join(lists)}")


def variables_for(
    entries: Sequence[str], devices: Devices, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables with which workers see some GPUs only, in that order.

    Args:
        entries: Numbers, ids or MIG names.

    Raises:
        ValueError: One of them is not there.
    """
    if devices.nvidia:
        if entries[0].startswith(MIG):
            return {NVIDIA_VARIABLE: ",".join(_migs(entries))}
        names = _names(variables.get(NVIDIA_VARIABLE), len(devices.nvidia))
        seen = visible_nvidia(devices.nvidia, variables)
        return {NVIDIA_VARIABLE: _selected(entries, seen, names)}
    if devices.amd:
        name = NVIDIA_VARIABLE if _is_hidden_by_cuda(variables) else HIP_VARIABLE
        left = visible(devices.amd, variables.get(ROCR_VARIABLE))
        names = _names(variables.get(name), len(left))
        return {name: _selected(entries, visible_amd(devices.amd, variables), names)}
    if devices.xpu:
        names = _names(variables.get(INTEL_VARIABLE), devices.xpu)
        return {INTEL_VARIABLE: _selected(entries, [Gpu()] * devices.xpu, names)}
    raise ValueError("this node has no GPU that elrun sees")


def _is_hidden_by_cuda(variables: Mapping[str, str]) -> bool:
    return HIP_VARIABLE not in variables and NVIDIA_VARIABLE in variables


def _lists(text: str) -> dict[str, list[str]]:
    lists = {}
    for part in text.split(";"):
        name, colon, entries = part.rpartition(":")
        if name.strip() in lists or (not name.strip() and (colon or ";" in text)):
            raise ValueError(_FORM)
        lists[name.strip()] = [each.strip() for each in entries.split(",") if each.strip()]
    return lists


def _names(value: str | None, count: int) -> list[str]:
    """Return how a variable names each GPU that is seen."""
    if value is None:
        return [str(number) for number in range(count)]
    return [each.strip() for each in value.split(",")]


def _migs(entries: Sequence[str]) -> Sequence[str]:
    others = [each for each in entries if not each.startswith(MIG)]
    if others:
        raise ValueError(f"{others[0]} is no MIG instance; give MIG names only, or none")
    return entries


def _selected(entries: Sequence[str], seen: Sequence[Gpu], names: Sequence[str]) -> str:
    return ",".join(names[number] for number in _numbers(entries, seen))


def _numbers(entries: Sequence[str], seen: Sequence[Gpu]) -> list[int]:
    if not seen:
        raise ValueError("all GPUs of this node are hidden; unset the variable that hides them")
    numbers = [_number(entry, seen) for entry in entries]
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(f"GPU {number} is named twice")
    return numbers


def _number(entry: str, seen: Sequence[Gpu]) -> int:
    if entry.startswith(MIG):
        raise ValueError(f"{entry} is a MIG instance; give MIG names only, on a node of NVIDIA's")
    if not entry.isdecimal():
        found = [number for number, gpu in enumerate(seen) if gpu.id.startswith(entry)]
        if len(found) != 1:
            how = "several GPUs have ids that begin so" if found else "there is no such GPU here"
            raise ValueError(f"{entry}: {how}")
        return found[0]
    if int(entry) >= len(seen):
        there = "GPU 0 only" if len(seen) == 1 else f"GPUs 0 to {len(seen) - 1}"
        raise ValueError(f"there is no GPU {entry} here: elrun sees {there}")
    return int(entry)
