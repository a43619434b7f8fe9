"""Values that behave as dataclasses and aren't: defining those would be a fifth of a start.

In torchrun the public values are dataclasses, and programs compare them, print them, extend them,
and make variants by ``dataclasses.replace``. All that works with these, too. The module
``dataclasses``, with all that it imports, is imported when one of its functions asks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self


class _OfTwin:
    """An attribute that a class has from a dataclass whose constructor takes the same."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, value: object, owner: type) -> Any:
        """Return what the functions of ``dataclasses`` look for."""
        from dataclasses import make_dataclass  # see above

        return getattr(make_dataclass(owner.__name__, _fields_of(owner)), self._name)


def _fields_of(owner: type) -> list[tuple[str, Any, Any]]:
    from dataclasses import field  # see above
    from inspect import Parameter, signature  # see above

    fields = []
    for parameter in signature(owner).parameters.values():
        has_default = parameter.default is not Parameter.empty
        settings = {"default": parameter.default} if has_default else {}
        fields.append((parameter.name, parameter.annotation, field(**settings)))
    return fields


class PlainValue:
    """A value that is equal to another one with the same attributes, and shows them."""

    __dataclass_fields__ = _OfTwin("__dataclass_fields__")
    __dataclass_params__ = _OfTwin("__dataclass_params__")
    __hash__ = None  # type: ignore[assignment]  # its attributes may change

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"

    def __replace__(self, **changes: Any) -> Self:
        """Return a variant; ``copy.replace`` asks for it."""
        from dataclasses import replace  # see above

        variant: Self = replace(self, **changes)  # type: ignore[type-var]
        return variant
