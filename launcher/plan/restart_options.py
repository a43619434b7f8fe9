"""The options that say after which failures, and how, workers start again."""

from __future__ import annotations

from ...agent.failures.restart_causes import Causes
from ...agent.failures.restart_rules import RestartRules
from ..commandline.arguments import Given


def rules_of(given: Given, names: tuple[str, ...]) -> tuple[RestartRules, tuple[str, ...]]:
    """Return the rules by which workers start again.

    Args:
        names: Names of the options that make the rules.

    Returns:
        The rules, and a notice that names the options that change nothing: no restart is allowed.
    """
    rules = RestartRules(
        only_on=given["restart_on"],
        never_on=given["no_restart_on"] or Causes(),
        delay_s=given["restart_delay"],
        window_s=given["restart_window"],
        fuse=given["fuse"],
        stop_timeout_s=given["restart_timeout"],
    )
    if given["max_restarts"]:
        return rules, ()
    useless = ", ".join(given.said(name) for name in names if given.is_given(name))
    return rules, (f"{useless}: no effect without restarts (--max-restarts)",)
