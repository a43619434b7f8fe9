"""Refuses a function that no new process would find, before anything starts."""

from __future__ import annotations

import sys

from ..agent.processes.importable import require_guard, require_importable
from ..rendezvous.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def require_sendable(function: Callable[..., Any], start_method: str) -> None:
    """Refuse a function that no new process would find.

    Raises:
        UsageError: No worker would find it.
    """
    caller = sys._getframe()
    own = __name__.partition(".")[0]
    while caller is not None and caller.f_globals.get("__name__", "").partition(".")[0] == own:
        caller = caller.f_back  # type: ignore[assignment]
    try:
        require_importable(function, start_method)
        require_guard(start_method, caller)
    except ValueError as error:
        raise UsageError(str(error)) from None  # one traceback says it all
