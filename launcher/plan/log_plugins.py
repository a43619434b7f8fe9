"""``--logs-specs``: a layout of the log files that another package brings."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ...agent.output.specs import LogsSpecs, Std
from ..commandline.arguments import Given, Refusal, listed, nearest
from .config import DEFAULT_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable

_STREAMS = ("redirects", "tee")


def layout_of_plug_in(given: Given, settings: dict[str, Any]) -> LogsSpecs:
    """Return the layout that the user named.

    Args:
        given: What the user gave.
        settings: What ``DefaultLogsSpecs`` would be made from.

    Raises:
        Refusal: There is no such plug-in, or it can't be used.
    """
    wanted = given["logs_specs"]
    found = {each.name: each for each in entry_points(group="torchrun.logs_specs")}
    if wanted not in found:
        known = sorted({*found, DEFAULT_LAYOUT})
        raise Refusal(
            f"{given.said('logs_specs')}: there is no such plug-in; "
            f"give {listed(known)}{nearest(wanted, known)}"
        )
    try:
        make: Callable[..., LogsSpecs] = found[wanted].load()
        std = _std_of(make)
        return make(**settings | {name: _translated(settings[name], std) for name in _STREAMS})
    except Exception as error:
        raise Refusal(
            f"{given.said('logs_specs')}: {found[wanted].value} can't be used: {error!r}"
        ) from error


def _std_of(make: object) -> type[Std]:
    """Return the ``Std`` that a layout knows: one that extends torch's class knows torch's only."""
    for base in getattr(make, "__mro__", ()):
        if base.__name__ == LogsSpecs.__name__:
            std: type[Std] = getattr(sys.modules.get(base.__module__), Std.__name__, Std)
            return std
    return Std


def _translated(streams: Std | dict[int, Std], std: type[Std]) -> Std | dict[int, Std]:
    if isinstance(streams, dict):
        return {local_rank: std(int(each)) for local_rank, each in streams.items()}
    return std(int(streams))
