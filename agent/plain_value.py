"""Values that behave as dataclasses and aren't: defining those would be a fifth of a start.

In torchrun the public values are dataclasses, and programs compare them, print them, and make
variants by ``dataclasses.replace``. All that works with these, too. The module ``dataclasses``,
with all that it imports, is imported when one of its functions asks.
"""

from __future__ import annotations

from typing import Any


class DataclassFields:
    """The ``__dataclass_fields__`` of a class whose constructor takes the fields by their names."""

    def __get__(self, value: object, owner: type) -> dict[str, Any]:
        """Return what the functions of ``dataclasses`` look for."""
        from dataclasses import make_dataclass  # noqa: PLC0415  see above
        from inspect import signature  # noqa: PLC0415  see above

        names = getattr(owner, "_fields", None) or signature(owner).parameters
        twin: Any = make_dataclass(owner.__name__, names)
        fields: dict[str, Any] = twin.__dataclass_fields__
        return fields


class PlainValue:
    """A value that is equal to another one with the same attributes, and shows them."""

    __dataclass_fields__ = DataclassFields()
    __hash__ = None  # type: ignore[assignment]  # its attributes may change

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"
