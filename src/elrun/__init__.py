"""elrun starts, watches and restarts distributed PyTorch jobs.

The public names below are loaded when they are first used, so that ``import elrun`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent.error_file import record
    from .launcher.config import LaunchConfig
    from .launcher.launch import elastic_launch, launch_agent

__all__ = ["LaunchConfig", "elastic_launch", "launch_agent", "record"]

_HOME_OF = {
    "LaunchConfig": ".launcher.config",
    "elastic_launch": ".launcher.launch",
    "launch_agent": ".launcher.launch",
    "record": ".agent.error_file",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
