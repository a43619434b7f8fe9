"""Named tuples whose classes cost a start next to nothing.

To type checkers and to whatever uses the values, ``NamedTuple`` is ``typing.NamedTuple``. Only the
making of a class differs: ``typing`` compiles the annotation of each field and ``collections`` a
constructor for each class, which takes a fifth of a millisecond; a start of elrun makes some forty
classes. Here one constructor serves all classes, and nothing is compiled, until a class has made
many values: then it gets the constructor of ``collections``, which is three times as fast.
"""

from __future__ import annotations

from _collections import _tuplegetter as field_at  # type: ignore[import-not-found]
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from inspect import Signature
    from typing import Any, NamedTuple, Self

__all__ = ["Bare", "NamedTuple"]

_MANY = 200
"""Values of one class after which a constructor of its own pays."""


class _Fields(tuple):  # type: ignore[type-arg]
    """What all named tuples inherit."""

    __slots__ = ()
    _fields: tuple[str, ...]
    _field_defaults: dict[str, object]
    _made: object

    def __new__(cls, *values: Any, **named: Any) -> Self:
        if next(cls._made) == _MANY:  # type: ignore[call-overload]
            cls._compile()
        missing = len(cls._fields) - len(values)
        if named or not 0 <= missing <= len(cls._field_defaults):
            values = cls._completed(values, named)
        elif missing:
            values += tuple(cls._field_defaults.values())[-missing:]
        return tuple.__new__(cls, values)

    @classmethod
    def _compile(cls) -> None:
        """Give the class the constructor of a named tuple of ``collections``."""
        from collections import namedtuple  # few processes need it

        model = namedtuple(  # type: ignore[misc]  # noqa: PYI024  fields are known late
            cls.__name__, cls._fields, defaults=[*cls._field_defaults.values()]
        )
        cls.__new__ = model.__new__  # type: ignore[assignment,method-assign]

    @classmethod
    def _completed(cls, values: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        fields = cls._fields
        placed = dict(zip(fields, values, strict=False))
        all_values = {**cls._field_defaults, **placed, **named}
        is_one_too_many = len(values) > len(fields) or not placed.keys().isdisjoint(named)
        if is_one_too_many or all_values.keys() != set(fields):
            given = ", ".join([*map(repr, values), *named])
            raise TypeError(f"{cls.__name__} has the fields ({', '.join(fields)}), not ({given})")
        return tuple([all_values[field] for field in fields])

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        return cls(*values)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{**self._asdict(), **changes})

    __replace__ = _replace  # for ``copy.replace`` of Python 3.13

    def __repr__(self) -> str:
        values = ", ".join([f"{field}={value!r}" for field, value in self._asdict().items()])
        return f"{type(self).__name__}({values})"

    def __getnewargs__(self) -> tuple[Any, ...]:  # for copies and pickles: what `__new__` takes
        return tuple(self)


class _SignatureOfFields:
    """The signature of a named tuple, for ``inspect``: made when it is asked for."""

    def __get__(self, _instance: object, owner: type[_Fields]) -> Signature:
        from inspect import Parameter, Signature  # no start asks

        return Signature(
            [
                Parameter(
                    field,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    default=owner._field_defaults.get(field, Parameter.empty),
                    annotation=owner.__annotations__.get(field, Parameter.empty),
                )
                for field in owner._fields
            ]
        )


_Fields.__signature__ = _SignatureOfFields()  # type: ignore[attr-defined]


class _Maker(type):
    """Makes a subclass of ``_Fields`` of each class statement that names ``NamedTuple`` as base."""

    def __new__(cls, name: str, _bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        fields = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        if tuple(defaults) != fields[len(fields) - len(defaults) :]:
            raise TypeError(f"{name}: a field without a default follows one that has a default")
        for place, field in enumerate(fields):
            namespace[field] = field_at(place, None)
        namespace.update(
            __slots__=(),
            __match_args__=fields,
            _fields=fields,
            _field_defaults=defaults,
            _made=count(),
        )
        return type(name, (_Fields,), namespace)


if not TYPE_CHECKING:
    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})


class Bare:
    """What has no fields: its class says all, and objects of one class are equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
