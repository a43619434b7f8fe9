"""Knows what takes the metrics of this process; cheap to ask where nothing does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .metrics import MetricHandler

AGENT_GROUP = "torchelastic"
"""The group of an agent's own metrics."""


class MetricHandlers:
    """The handlers of a process."""

    def __init__(self) -> None:
        self.default: MetricHandler | None = None
        self.by_group: dict[str, MetricHandler] = {}

    def of(self, group: str) -> MetricHandler | None:
        """Return what takes the metrics of a group; None: nothing does."""
        return self.by_group.get(group, self.default)


handlers = MetricHandlers()
