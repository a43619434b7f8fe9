"""What ``--gpus`` means on this node, as variables for its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ...agent.hardware.devices import Devices, read_devices
from ...agent.hardware.gpu_choice import MIG, choice_of, variables_for
from ..commandline.arguments import Given, Refusal


def chosen_gpus(
    given: Given,
    variables: Mapping[str, str],
    node: str = "",
    read: Callable[[str], Devices] | None = None,
) -> tuple[dict[str, str], int]:
    """Return the variables that let workers see the chosen GPUs only, and how many those are.

    Args:
        given: The options, with ``--gpus``.
        node: This node's name; by default the host's.
        read: Reads the devices of a node; by default this one's.

    Raises:
        Refusal: One of the GPUs is not there, or no list is this node's.
    """
    try:
        entries = choice_of(given["gpus"], node or os.uname().nodename)
        chosen = variables_for(entries, (read or read_devices)("auto"), variables)
    except ValueError as error:
        raise Refusal(f"{given.said('gpus')}: {error}") from error
    is_shared = len(entries) > 1 and not given["virtual_local_rank"]
    if entries[0].startswith(MIG) and is_shared:
        raise Refusal(
            f"{given.said('gpus')}: a process sees one MIG instance only; give "
            "--virtual-local-rank as well, which gives each worker its own"
        )
    return chosen, len(entries)
