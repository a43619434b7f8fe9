"""``--nproc-per-node``: how many workers a kind of device means here, and whether they fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from ..commandline.arguments import Given, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...agent.hardware.devices import Count


def counted_workers(
    given: Given,
    variables: Mapping[str, str],
    count: Callable[[str, Mapping[str, str]], Count] | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Return how many workers this node has, and what the user should know of that.

    Args:
        count: Counts the workers of a kind; by default this node's devices.

    Raises:
        Refusal: There is no such device, or the system takes fewer processes.
    """
    said, wanted = given.said("nproc_per_node"), given["nproc_per_node"]
    if isinstance(wanted, int):
        if wanted > (most := _most_processes()):
            raise Refusal(f"{said}: this node can have {most:,} processes at once (kernel.pid_max)")
        return wanted, ()
    from ...agent.hardware.devices import count_workers  # a number needs no counting

    try:
        counted = (count or count_workers)(wanted, variables)
    except ValueError as error:
        raise Refusal(f"{said}: {error}") from error
    return counted.workers, (f"{said}: {counted.notice}",) if counted.notice else ()


def _most_processes() -> int:
    try:
        with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return sys.maxsize
