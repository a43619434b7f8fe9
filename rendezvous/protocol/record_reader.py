"""Reads the fields of a JSON object that another process wrote, and checks each."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import RendezvousStateError
from ..light_typing import Any
from ..network.addresses import may_be_host

MAX_COUNT = (1 << 31) - 1

_MAX_NAME = 512
_MAX_TEXT = 100
_MOST_TEXTS = 32


class Record:
    """A JSON object with one method for each type of field.

    Each method raises ``RendezvousStateError`` if the field is missing or has another type.
    """

    def __init__(self, key: str, kind: str, fields: Mapping[str, Any]) -> None:
        self.key = key
        self.kind = kind
        self._fields = fields

    def refuse(self, name: str, wanted: str) -> RendezvousStateError:
        """Return the error about a field that is missing or wrong."""
        if name not in self._fields:
            return RendezvousStateError(f"{self.key}: the {self.kind} record has no {name!r}")
        value = repr(self._fields[name])[:80]
        return RendezvousStateError(f"{self.key}: {name} is {value}, not {wanted}")

    def glimpse(self, name: str) -> str:
        """Return the start of a field's value, unchecked, for an error."""
        return repr(self._fields.get(name))[:80]

    def text(self, name: str, limit: int = _MAX_NAME) -> str:
        """Return a string of limited length."""
        value = self._fields.get(name)
        if not isinstance(value, str) or len(value) > limit:
            raise self.refuse(name, f"a string of at most {limit} characters")
        return value

    def address(self, name: str) -> str:
        """Return a host's name or address; it is checked, since workers get it as MASTER_ADDR."""
        value = self.text(name)
        if not may_be_host(value):
            raise self.refuse(name, "a host's name or address")
        return value

    def count(self, name: str, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return a whole number within bounds, both included."""
        value = self._fields.get(name)
        if type(value) is not int or not low <= value <= high:  # type(): True is no number
            raise self.refuse(name, f"a number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a JSON object, without a look at its content."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """Return a JSON object of a few short texts for people, by short names."""
        values = self.mapping(name)
        if len(values) > _MOST_TEXTS or not all(
            isinstance(text, str) and len(text) <= _MAX_TEXT and text.isprintable()
            for text in (*values, *values.values())
        ):
            raise self.refuse(name, f"an object of at most {_MOST_TEXTS} short texts")
        return values

    def counts(self, name: str) -> list[int]:
        """Return a list of whole numbers from 0 on."""
        values = self._fields.get(name)
        if not isinstance(values, list) or not all(map(_is_count, values)):
            raise self.refuse(name, "a list of numbers from 0 on")
        return values

    def pair(self, name: str) -> tuple[int, int]:
        """Return two whole numbers from 0 on."""
        match self.counts(name):
            case [first, second]:
                return first, second
            case _:
                raise self.refuse(name, "a pair of numbers")

    def records(self, name: str) -> list[Record]:
        """Return a list of JSON objects, each as a record."""
        values = self._fields.get(name)
        if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
            raise self.refuse(name, "a list of objects")
        return [
            Record(f"{self.key}, {name}[{index}]", self.kind, each)
            for index, each in enumerate(values)
        ]

    def has(self, name: str) -> bool:
        return name in self._fields

    def is_null(self, name: str) -> bool:
        return name in self._fields and self._fields[name] is None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT  # type(): True is no number
