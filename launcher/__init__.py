"""The front door of elrun: options in, exit code out.

The public names below are loaded when they are first used.
"""

from ..rendezvous.lazy import names_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cli import main
    from .launch import elastic_launch, launch_agent
    from .library import (
        config_from_args,
        determine_local_world_size,
        get_args_parser,
        parse_args,
        parse_min_max_nnodes,
        run,
    )
    from .plan.config import LaunchConfig

__all__ = [
    "LaunchConfig",
    "config_from_args",
    "determine_local_world_size",
    "elastic_launch",
    "get_args_parser",
    "launch_agent",
    "main",
    "parse_args",
    "parse_min_max_nnodes",
    "run",
]

_HOME_OF = {
    "LaunchConfig": ".plan.config",
    "config_from_args": ".library",
    "determine_local_world_size": ".library",
    "elastic_launch": ".launch",
    "get_args_parser": ".library",
    "launch_agent": ".launch",
    "main": ".cli",
    "parse_args": ".library",
    "parse_min_max_nnodes": ".library",
    "run": ".library",
}


if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
