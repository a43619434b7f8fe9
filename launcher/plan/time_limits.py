"""How long workers have when elrun is told to stop: what the user says, cut to what is left."""

from __future__ import annotations

import os

from ...agent.elastic.deadlines import workers_share
from ..commandline.arguments import Given
from ..commandline.environment import DEFAULT_SHUTDOWN_TIMEOUT_S, Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_USUAL_WAIT_S = 30.0
"""SLURM's KillWait and the grace period of a pod, where they are not set."""

_CONF = "SLURM_CONF"
_SLURM_CONFS = ("/run/slurm/conf/slurm.conf", "/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf")


def shutdown_timeout_s(given: Given, environment: Environment) -> float:
    """Return how long workers have between a signal and SIGKILL.

    Args:
        environment: Names the scheduler, and may name the time.
    """
    wanted: float | None = given["shutdown_timeout"]
    if wanted is None and environment.has_shutdown_timeout:
        wanted = environment.shutdown_timeout_s
    grace_s: float | None = given["grace"]
    if grace_s is not None:
        return min(workers_share(grace_s), float("inf") if wanted is None else wanted)
    if wanted is not None:
        return wanted
    variables = environment.variables
    if "SLURM_JOB_ID" in variables:
        return min(DEFAULT_SHUTDOWN_TIMEOUT_S, workers_share(slurm_kill_wait_s(variables)))
    return min(DEFAULT_SHUTDOWN_TIMEOUT_S, workers_share(_USUAL_WAIT_S))


def slurm_kill_wait_s(variables: Mapping[str, str]) -> float:
    """Return how long SLURM waits between SIGTERM and SIGKILL, by its configuration on this node.

    Args:
        variables: The environment, which may name the file.
    """
    named = variables.get(_CONF)
    for path in (named,) if named else _SLURM_CONFS:
        if not os.path.isfile(path):
            continue
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                values = [_kill_wait_in(line) for line in file]
        except OSError:
            continue
        known = [value for value in values if value is not None]
        return known[-1] if known else _USUAL_WAIT_S
    return _USUAL_WAIT_S


def _kill_wait_in(line: str) -> float | None:
    name, _, value = line.partition("#")[0].partition("=")
    if name.strip().lower() != "killwait":
        return None
    value = value.strip()
    return float(value) if value.isascii() and value.isdigit() else None
