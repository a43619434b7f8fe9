"""The agent's own environment: the one place of the agent that reads it."""

from __future__ import annotations

import os

from ...rendezvous.api.parameters import SECRET_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def inherited_environment() -> Mapping[str, str]:
    """Return the agent's own environment, which its workers inherit, less the job's secret."""
    environment = os.environ.copy()
    environment.pop(SECRET_VARIABLE, None)  # a program that logs its environment must not log this
    return environment
