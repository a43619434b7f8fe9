"""The front door of elrun: options in, exit code out.

The public names below are loaded when they are first used.
"""

from ..rendezvous.lazy import names_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cli import main
    from .launch import elastic_launch, launch_agent
    from .library import config_from_args, get_args_parser, parse_args, run
    from .plan.config import LaunchConfig

__all__ = [
    "LaunchConfig",
    "config_from_args",
    "elastic_launch",
    "get_args_parser",
    "launch_agent",
    "main",
    "parse_args",
    "run",
]

_HOME_OF = {
    "LaunchConfig": ".plan.config",
    "config_from_args": ".library",
    "elastic_launch": ".launch",
    "get_args_parser": ".library",
    "launch_agent": ".launch",
    "main": ".cli",
    "parse_args": ".library",
    "run": ".library",
}


if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
