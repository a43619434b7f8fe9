"""Names the modules that an agent may still import when its workers run, by what it will not.

These are not worth keeping (`agent/system/kept_modules.py`). The tests read all imports and hold
these names against them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

NEEDED_AT_THE_END = ("elrun", "elrun.agent", "elrun.launcher", "elrun.rendezvous", "rich")

_OLD_UNICODE = (
    *("4-1-0", "5-0-0", "5-1-0", "5-2-0", "6-0-0", "6-1-0", "6-2-0", "6-3-0", "7-0-0", "8-0-0"),
    *("9-0-0", "10-0-0", "11-0-0", "12-0-0", "12-1-0", "13-0-0", "14-0-0", "15-0-0", "15-1-0"),
    "16-0-0",
)
"""Tables of rich's for terminals that are set to an old version of Unicode."""

_NOT_OF_A_TABLE = (
    *("__main__", "_emoji_codes", "_inspect", "_spinners", "_stack", "_timer", "_win32_console"),
    *("_windows", "_windows_renderer", "ansi", "bar", "columns", "diagnose", "file_proxy"),
    *("filesize", "json", "layout", "live", "live_render", "logging", "markdown", "panel"),
    *("pretty", "progress", "progress_bar", "prompt", "rule", "scope", "spinner"),
    *("status", "syntax", "traceback", "tree"),
)
"""Modules of rich's that no summary shows."""

NOT_OF_AN_AGENT = (
    "elrun.agent.preload.hook",
    "elrun.agent.workers.hook",
    "elrun.launcher.commandline.completion",
    "elrun.launcher.commandline.help",
    "elrun.launcher.report",
    "elrun.launcher.verbs",
    *(f"rich.{name}" for name in _NOT_OF_A_TABLE),
    *(f"rich._unicode_data.unicode{version}" for version in _OLD_UNICODE),
)
"""What only other processes and other commands import, and what a summary does not show."""

BEGUN_BY_THEN = (
    "elrun.agent.elastic.job_spans",
    "elrun.agent.elastic.node_traits",
    "elrun.agent.elastic.open_metrics",
    "elrun.agent.elastic.wait_notices",
    "elrun.agent.events.telemetry",
    "elrun.agent.hardware.cpus",
    "elrun.agent.hardware.devices",
    "elrun.agent.hardware.gpu_choice",
    "elrun.agent.hardware.numa",
    "elrun.agent.hardware.topology",
    "elrun.agent.monitoring.hang_votes",
    "elrun.agent.monitoring.hang_watch",
    "elrun.agent.monitoring.health",
    "elrun.agent.monitoring.kernel_waits",
    "elrun.agent.monitoring.node_check",
    "elrun.agent.monitoring.preemption_notice",
    "elrun.agent.monitoring.signal_echoes",
    "elrun.agent.monitoring.signal_forwarding",
    "elrun.agent.monitoring.signs_of_life",
    "elrun.agent.monitoring.watchdog",
    "elrun.agent.processes.function_context",
    "elrun.agent.processes.function_main",
    "elrun.agent.processes.importable",
    "elrun.agent.processes.slot",
    "elrun.agent.processes.spawner",
    "elrun.agent.workers.heartbeat",
    "elrun.agent.workers.interpreter",
    "elrun.agent.workers.preemption",
    "elrun.agent.workers.versions",
    "elrun.launcher.commandline.config_file",
    "elrun.launcher.commandline.listen_address",
    "elrun.launcher.commandline.patterns",
    "elrun.launcher.commandline.verbs",
    "elrun.launcher.declining",
    "elrun.launcher.exporting",
    "elrun.launcher.library",
    "elrun.launcher.notebook",
    "elrun.launcher.plan",
    "elrun.launcher.sendable",
    "elrun.launcher.telemetry",
    "elrun.rendezvous.backends",
    "elrun.rendezvous.network.hosts",
    "elrun.rendezvous.network.listen",
    "elrun.rendezvous.stores.loop",
    "elrun.rendezvous.stores.memory",
    "elrun.rendezvous.stores.signed",
    "elrun.rendezvous.stores.steps",
    "elrun.rendezvous.stores.store",
)
"""What a job has loaded by the time its first workers run, or never loads."""

BEGUN_WHOLE = (
    "elrun.agent.preload",
    "elrun.agent.timers",
    "elrun.rendezvous.liveness",
    "elrun.rendezvous.node",
    "elrun.rendezvous.protocol",
    "elrun.rendezvous.stores.etcd",
    "elrun.rendezvous.stores.server",
)
"""Rooms of which a job has loaded something by then, or never needs anything."""


def unneeded(loaded: Container[str]) -> Iterator[str]:
    """Yield the modules and packages that need not be kept.

    Args:
        loaded: The names of the modules that are loaded when the workers run.
    """
    yield from NOT_OF_AN_AGENT
    yield from BEGUN_BY_THEN
    yield from (name for name in BEGUN_WHOLE if name not in loaded)
