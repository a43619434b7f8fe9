"""elrun starts, watches and restarts distributed PyTorch jobs.

The public names below are loaded when they are first used, so that ``import elrun`` costs nothing.
"""

from typing import TYPE_CHECKING

from .rendezvous.lazily import names_elsewhere

if TYPE_CHECKING:
    from .agent.error_file import record
    from .launcher.config import LaunchConfig
    from .launcher.launch import elastic_launch, launch_agent
    from .launcher.version import __version__ as __version__

__all__ = ["LaunchConfig", "elastic_launch", "launch_agent", "record"]

_HOME_OF = {
    "LaunchConfig": ".launcher.config",
    "elastic_launch": ".launcher.launch",
    "launch_agent": ".launcher.launch",
    "record": ".agent.error_file",
    "__version__": ".launcher.version",
}


__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
