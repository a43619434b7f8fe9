"""The agent's own environment: the one place of the agent that reads it."""

from __future__ import annotations

import os

from ...rendezvous.api.parameters import SECRET_VARIABLE, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def inherited_environment() -> Mapping[str, str]:
    """Return the agent's own environment, which its workers inherit, less the job's secret."""
    environment = os.environ.copy()
    environment.pop(SECRET_VARIABLE, None)  # a program that logs its environment must not log this
    return environment


def seconds_of(name: str, variables: Mapping[str, str], default: float) -> float:
    """Return a variable's number of seconds; the default where it is unset or empty.

    Raises:
        ValueError: It is no number of seconds.
    """
    text = variables.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ValueError(f"{name}={quoted(text)}: give a number of seconds, 0 or more")
    return seconds


def exit_barrier_timeout_of(variables: Mapping[str, str]) -> float:
    """Return the seconds for which a node that has succeeded waits for the others.

    They are those of ``TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT``, else 300.

    Raises:
        ValueError: The variable is no number of seconds.
    """
    return seconds_of("TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT", variables, 300.0)
