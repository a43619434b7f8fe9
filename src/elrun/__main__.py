"""Run elrun's command line: ``elrun`` and ``python -m elrun`` are the same."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from .launcher.config import LaunchConfig


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    gc.disable()  # a start makes no garbage: looking for it was a fifteenth of the time
    try:
        from .launcher.cli import run  # noqa: PLC0415  this module's import stays free
    except KeyboardInterrupt:  # so early that there is nothing to stop
        import signal  # noqa: PLC0415  rarely

        sys.stderr.write("elrun: interrupted\n")
        sys.exit(128 + signal.SIGINT)
    code = run(sys.argv[1:], _launch)
    # All is closed and flushed by now. A thread may still block inside torch's store for an answer
    # that nobody wants any more; taking the interpreter down around it aborts the process.
    os._exit(code)


def _launch(
    config: LaunchConfig, entrypoint: Callable[..., Any] | str, args: list[Any]
) -> dict[int, Any]:
    from .agent.parent_death import OrphanAdoption  # noqa: PLC0415  `--help` needs none
    from .launcher.launch import launch_agent  # noqa: PLC0415

    OrphanAdoption.of_this_process().is_of_agent_alone = True
    gc.freeze()
    gc.enable()
    return launch_agent(config, entrypoint, args)


if __name__ == "__main__":
    main()
