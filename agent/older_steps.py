"""Calls a step that a subclass wrote for an older template, which gave it fewer arguments."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

_TAKES_ANY_POSITIONAL = 0x04  # inspect.CO_VARARGS; importing inspect takes 5 ms
_TAKES_ANY_NAME = 0x08  # inspect.CO_VARKEYWORDS


def call_shutdown(
    shutdown: Callable[..., None], death_sig: signal.Signals, timeout_s: float
) -> None:
    """Call an agent's ``_shutdown(death_sig, timeout)`` with as much of it as it takes.

    torch's template began with no argument, then gave the signal, and later the time as well.
    """
    code = getattr(shutdown, "__code__", None)
    if code is None:  # not written in Python, or not as a function: it takes what it likes
        shutdown(death_sig, timeout=timeout_s)
        return
    first = 0 if getattr(shutdown, "__self__", None) is None else 1
    positional = code.co_varnames[first : code.co_argcount]
    named = code.co_varnames[first : code.co_argcount + code.co_kwonlyargcount]
    takes_signal = positional or code.co_flags & _TAKES_ANY_POSITIONAL
    takes_time = "timeout" in named or code.co_flags & _TAKES_ANY_NAME
    shutdown(
        *([death_sig] if takes_signal else []), **({"timeout": timeout_s} if takes_time else {})
    )
