"""The settings of a node's waits, in seconds."""

from __future__ import annotations

from ..api.parameters import RendezvousParameters
from ..named_tuple import NamedTuple

LONGEST_S = 3e8
"""Ten years, for ``inf``: the system's clocks don't take more."""

STORE_PATIENCE_S = 60.0
"""Within this time a restart of the store, an election among its members or a cut cable ends."""

RECONNECT_PATIENCE_S = 0.15
"""Within this time a node comes back whose connection broke, unless its host is overloaded."""


class Timing(NamedTuple):
    """How long a node waits; all in seconds.

    Args:
        join_timeout_s: How long to wait for the minimum of nodes.
        last_call_s: With the minimum: how long to wait for one more node after each that came.
        survivor_s: How long to wait for a living node of the round before, whose workers may take
            long to stop.
        deputy_s: Time between two checks of the first deputy whether the round should be sealed.
        straggler_s: How long to wait for the record of a node that took its seat just before the
            round was closed.
        leave_s: How long a node that hosts the store waits until the others have read the end of
            the run.
        heartbeat_s: Time between two beats.
        patience_s: How long a node may be silent before it counts as lost.
        store_patience_s: How long the store may be silent before it counts as lost.
        reconnect_patience_s: How long a node whose connection to the store broke may take to come
            back before it counts as lost, at least.
        refusal_s: How long a node that can't take part tries to say so to the others.
        scout_s: Time between two looks at the other endpoints, while this node waits at one.
        afterlife_s: How long the store keeps a run's records after its last node has left.
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
    reconnect_patience_s: float = RECONNECT_PATIENCE_S
    refusal_s: float = 10.0
    scout_s: float = 2.0
    afterlife_s: float = 0.0


# By the name in ``--rdzv-conf``.
_SETTINGS = {
    "join_timeout": "join_timeout_s",
    "last_call_timeout": "last_call_s",
    "survivor_timeout": "survivor_s",
    "heartbeat_interval": "heartbeat_s",
    "heartbeat_patience": "patience_s",
    "store_patience": "store_patience_s",
    "reconnect_patience": "reconnect_patience_s",
    "refusal_timeout": "refusal_s",
}


def changed_settings(timing: Timing) -> dict[str, str]:
    """Return the settings of ``--rdzv-conf`` that are not the default ones, by their names."""
    values, defaults = timing._asdict(), Timing()._asdict()
    return {
        f"--rdzv-conf {setting}": seconds_in_words(values[name])
        for setting, name in _SETTINGS.items()
        if values[name] != defaults[name]
    }


def timing_of(params: RendezvousParameters, store_patience_s: float = STORE_PATIENCE_S) -> Timing:
    """Return the waits that the settings of a rendezvous name.

    Args:
        params: The names of ``_SETTINGS``, and ``timeout``, LaunchConfig's name of
            ``join_timeout``; in seconds.

    Raises:
        ValueError: A setting is no number of seconds, or the heartbeat's patience is less than two
            intervals.
    """
    heartbeat_s = params.get_as_seconds("heartbeat_interval", Timing().heartbeat_s)
    defaults = Timing(
        join_timeout_s=params.get_as_seconds("timeout", Timing().join_timeout_s),
        patience_s=max(Timing().patience_s, 4 * heartbeat_s),
        store_patience_s=store_patience_s,
    )
    timing = defaults._replace(
        **{
            name: params.get_as_seconds(setting, getattr(defaults, name))
            for setting, name in _SETTINGS.items()
        }
    )
    if timing.heartbeat_s == 0:
        raise ValueError("--rdzv-conf heartbeat_interval=0: give a number of seconds above 0")
    if timing.patience_s < 2 * timing.heartbeat_s:
        raise ValueError(
            f"--rdzv-conf heartbeat_patience={seconds_in_words(timing.patience_s)}: give at least "
            f"twice the heartbeat_interval of {seconds_in_words(timing.heartbeat_s)} s"
        )
    return Timing(*(min(LONGEST_S, seconds) for seconds in timing))


def seconds_in_words(seconds: float) -> str:
    """Return a setting's seconds as a user would give them: never ``1e+06``."""
    return "inf" if seconds >= LONGEST_S else f"{seconds:.10g}"


def limit_in_words(seconds: float) -> str:
    """Return for how long something is tried: ``for 600 s``."""
    if seconds >= LONGEST_S:
        return "as long as it takes"
    return f"for {seconds_in_words(seconds)} s"
