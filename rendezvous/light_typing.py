"""Names of ``typing`` without ``typing``, which takes 4 ms of a start and half a megabyte.

To type checkers they are those of ``typing``. When a program runs, no annotation is evaluated, and
stand-ins are enough.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, NoReturn, Protocol, TypeAlias, TypeVar, cast
else:
    Any = NoReturn = Protocol = TypeAlias = object

    class Generic:
        """Has a parameter that nobody asks for."""

        def __class_getitem__(cls, _parameter: object) -> type:
            return cls

    def TypeVar(name: str) -> object:  # noqa: N802
        """Return what stands for no type."""
        return name

    def cast(_type: object, value: object) -> object:
        """Return a value as it is."""
        return value


__all__ = ["Any", "Generic", "NoReturn", "Protocol", "TypeAlias", "TypeVar", "cast"]
