"""Refuses a signal that one option ends the job by and another option forwards to the workers."""

from __future__ import annotations

from ...agent.system.signals import parse_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import LaunchConfig


def check_signal_roles(config: LaunchConfig) -> None:
    """Refuse signals that have two roles.

    Args:
        config: Names signals that end the job, that go to the workers, and that preempt the job.

    Raises:
        ValueError: A signal is named in two options.
    """
    forwarded = set(parse_signals(config.forward_signals))
    both = forwarded & set(parse_signals(config.signals_to_handle))
    if both:
        ending = ", ".join(sorted(number.name for number in both))
        raise ValueError(
            f"{ending} ends the job, so it can't be forwarded as well: take it out of "
            "--forward-signals, or out of --signals-to-handle"
        )
    both = forwarded & set(parse_signals(config.preempt_signal))
    if both:
        names = ", ".join(sorted(number.name for number in both))
        raise ValueError(
            f"{names} preempts the job, so it can't be forwarded as well: take it out of "
            "--forward-signals, or out of --preempt-signal"
        )
