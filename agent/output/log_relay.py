"""Has elrun's log lines handled by a thread while an agent runs: see ``log_handler``."""

from __future__ import annotations

from ...rendezvous.logs import once_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

SETTLE_S = 2.0
"""How long handlers have at the end for what they have not taken yet."""


def relayed_logs(settle_s: float = SETTLE_S) -> AbstractContextManager[None]:
    """Let a thread do what handlers do with the lines that elrun logs; this nests.

    Args:
        settle_s: How long handlers have at the end.
    """
    name = __package__.partition(".")[0]

    def enter() -> None:
        import logging  # most jobs log nothing

        from .log_handler import holders

        holders.enter(logging.getLogger(name))

    def leave() -> None:
        import logging

        from .log_handler import holders

        holders.leave(logging.getLogger(name), settle_s)

    return once_there(enter, leave)
