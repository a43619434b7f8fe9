"""The front door of elrun: options in, exit code out.

The public names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cli import main
    from .config import LaunchConfig
    from .launch import elastic_launch, launch_agent

__all__ = ["LaunchConfig", "elastic_launch", "launch_agent", "main"]

_HOME_OF = {
    "LaunchConfig": ".config",
    "elastic_launch": ".launch",
    "launch_agent": ".launch",
    "main": ".cli",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
