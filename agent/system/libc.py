"""Functions of the C library that Python has no call for.

They are called as ``ctypes`` calls them, by ``_ctypes``: to load ``ctypes`` takes a start six
million instructions, nearly all for classes of types that none of these functions has.
"""

from __future__ import annotations

import _ctypes
from _ctypes import byref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Int", "byref", "libc_function"]


class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001  see above
    """An ``int`` of C; ``byref`` of one is what a function takes that writes there."""

    _type_ = "i"


class _Function(_ctypes.CFuncPtr):
    # The second flag keeps the interpreter's lock: in a child forked from a process with threads,
    # waiting for a lock is the one thing to avoid.
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI


def libc_function(name: str) -> Callable[..., int]:
    """Return a function of the C library that returns an ``int``.

    It takes ints of 32 bits, texts in bytes, and what ``byref`` returns.

    Raises:
        OSError: There is no such function.
    """
    process = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # typeshed knows of no None
    return _Function(_ctypes.dlsym(process, name))
