"""elrun starts, watches and restarts distributed PyTorch jobs.

The public names below are loaded when they are first used, so that ``import elrun`` costs nothing.
"""

TYPE_CHECKING = False  # typing takes longer than all else before the command handles SIGINT
if TYPE_CHECKING:
    from .agent.failures.record import record
    from .agent.workers.heartbeat import heartbeat
    from .agent.workers.preemption import preemption
    from .launcher.commandline.version import __version__ as __version__
    from .launcher.launch import elastic_launch, launch_agent
    from .launcher.notebook import notebook_launch
    from .launcher.plan.config import LaunchConfig
    from .rendezvous.errors import ElrunError, UsageError

__all__ = [
    "ElrunError",
    "LaunchConfig",
    "UsageError",
    "elastic_launch",
    "heartbeat",
    "launch_agent",
    "notebook_launch",
    "preemption",
    "record",
]

_HOME_OF = {
    "ElrunError": ".rendezvous.errors",
    "UsageError": ".rendezvous.errors",
    "LaunchConfig": ".launcher.plan.config",
    "elastic_launch": ".launcher.launch",
    "launch_agent": ".launcher.launch",
    "notebook_launch": ".launcher.notebook",
    "heartbeat": ".agent.workers.heartbeat",
    "preemption": ".agent.workers.preemption",
    "record": ".agent.failures.record",
    "__version__": ".launcher.commandline.version",
}


if not TYPE_CHECKING:  # or a type checker takes every name for one that is there

    def __getattr__(name: str) -> object:
        from .rendezvous.lazy import names_elsewhere  # see above

        found = names_elsewhere(__name__, __name__, _HOME_OF)[0](name)
        if name in ("heartbeat", "preemption"):  # called once a step: not to be looked up each time
            globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
