"""Launches a function of a notebook, or of an interpreter that is typed into."""

from __future__ import annotations

import sys

from ..agent.processes.importable import require_importable
from ..rendezvous.errors import UsageError
from .launch import elastic_launch
from .plan.config import LaunchConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def notebook_launch(
    fn: Callable[..., Any], args: Iterable[Any] = (), nproc: int = 1, max_restarts: int = 0
) -> dict[int, Any]:
    """Run a function in several processes of this machine, as the workers of a job.

    ::

        def train(lr):                       # in a cell
            dist.init_process_group("gloo")
            ...

        elrun.notebook_launch(train, (0.1,), nproc=2)

    A function of the notebook itself is in no file from which a new process could import it, so the
    workers are forked from this process; a function of a module is imported by fresh processes.

    Args:
        fn: What each worker runs; lambdas and functions inside others are right as well.
        args: What it is called with.
        nproc: How many workers.
        max_restarts: How often all of them start again after a failure.

    Returns:
        What it returned on each worker, by rank.

    Raises:
        UsageError: The function can't be run by forks, since CUDA or a process group is in use
            here; or `fn` is no function, `args` one value instead of several, or `nproc` no number
            of workers.
        ChildFailedError: A worker failed.
    """
    values = _values_of(args)
    if not callable(fn):
        raise UsageError(f"fn={fn!r:.50}: give a function, without calling it and without quotes")
    if not hasattr(nproc, "__index__") or nproc < 1:
        raise UsageError(f"nproc={nproc!r:.50}: give a whole number, 1 or more")
    start_method = "spawn"
    try:
        require_importable(fn, start_method)
    except ValueError:
        start_method = "fork"
        if used := _what_no_fork_survives():
            name = getattr(fn, "__qualname__", None) or repr(fn)
            raise UsageError(
                f"{name} is defined in this session, so its workers are forked from it, and {used} "
                "here already, which no fork survives; restart the session and launch before that, "
                "or put the function into a module and import it"
            ) from None
    config = LaunchConfig(1, 1, nproc, start_method=start_method, max_restarts=max_restarts)
    return elastic_launch(config, fn)(*values)


def _values_of(args: Any) -> tuple[Any, ...]:
    """Return what the function is called with; a value alone may be a tuple without its comma."""
    if isinstance(args, (str, bytes)) or not hasattr(args, "__iter__"):
        raise UsageError(
            f"args={args!r:.50}: give a tuple of what the function is called with: (x,)"
        )
    return tuple(args)


def _what_no_fork_survives() -> str:
    """Return what this process has begun that a forked worker can't use; "" for nothing."""
    torch: Any = sys.modules.get("torch")
    for name in ("cuda", "xpu"):
        device = getattr(torch, name, None)
        if device is not None and device.is_initialized():
            return f"{name.upper()} was initialised"
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return "a process group was initialised"
    return ""
