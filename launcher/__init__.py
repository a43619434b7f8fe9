"""The front door of elrun: options in, exit code out.

The public names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from ..rendezvous.lazily import names_elsewhere

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


__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
