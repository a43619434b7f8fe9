"""How long a node waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.parameters import RendezvousParameters

# Ten years: what people mean by "inf", which the system's clocks don't take.
_LONGEST_S = 3e8

STORE_PATIENCE_S = 60.0
"""A restart of the store, an election among its members or a cut cable ends within that."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a node waits for what; all in seconds.

    Args:
        join_timeout_s: For enough nodes.
        last_call_s: For another node after each one that joined, once there are enough.
        survivor_s: For a living node of the round before, whose workers take their time to stop.
        deputy_s: Between two looks of the first deputy at whether the round should be sealed.
        straggler_s: For the record of a node that took its seat just before the door was shut.
        leave_s: For the others to have read the end of the run, where this node hosts the store.
        heartbeat_s: Between two signs of life.
        patience_s: For a sign of life of another node, before that counts as lost.
        store_patience_s: For an answer of the store, before that counts as lost.
        afterlife_s: For the records of a run to vanish once its last node has left, if the store
            keeps them that long.
    """

    join_timeout_s: float = 600.0
    last_call_s: float = 3.0
    survivor_s: float = 40.0
    deputy_s: float = 3.0
    straggler_s: float = 1.0
    leave_s: float = 5.0
    heartbeat_s: float = 0.5
    patience_s: float = 2.0
    store_patience_s: float = STORE_PATIENCE_S
    afterlife_s: float = 0.0


def timing_of(params: RendezvousParameters, store_patience_s: float = STORE_PATIENCE_S) -> Timing:
    """Return how long to wait for what, as the settings say.

    Args:
        params: ``join_timeout``, or ``timeout`` as LaunchConfig knows it, ``last_call_timeout``,
            ``survivor_timeout``, ``heartbeat_interval``, ``heartbeat_patience`` and
            ``store_patience``, in seconds.
        store_patience_s: The last of them where it isn't given.

    Raises:
        ValueError: One of them is no number of seconds, or the patience is less than two
            intervals.
    """
    default = Timing()
    heartbeat_s = params.get_as_seconds("heartbeat_interval", default.heartbeat_s)
    patience_s = params.get_as_seconds(
        "heartbeat_patience", max(default.patience_s, 4 * heartbeat_s)
    )
    if heartbeat_s == 0:
        raise ValueError("--rdzv-conf heartbeat_interval=0: give a number of seconds above 0")
    if patience_s < 2 * heartbeat_s:
        raise ValueError(
            f"--rdzv-conf heartbeat_patience={patience_s:g}: give at least twice the "
            f"heartbeat_interval of {heartbeat_s:g} s"
        )
    legacy_s = params.get_as_seconds("timeout", default.join_timeout_s)
    return Timing(
        join_timeout_s=min(_LONGEST_S, params.get_as_seconds("join_timeout", legacy_s)),
        last_call_s=min(
            _LONGEST_S, params.get_as_seconds("last_call_timeout", default.last_call_s)
        ),
        survivor_s=min(_LONGEST_S, params.get_as_seconds("survivor_timeout", default.survivor_s)),
        heartbeat_s=min(_LONGEST_S, heartbeat_s),
        patience_s=min(_LONGEST_S, patience_s),
        store_patience_s=min(_LONGEST_S, params.get_as_seconds("store_patience", store_patience_s)),
    )
