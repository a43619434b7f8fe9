"""Writes values and reads others in one request, where a store can do that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from .store import Store


@runtime_checkable
class Exchanger(Protocol):
    """A store that writes and reads in one request."""

    def exchange(self, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
        """Do what the function ``exchange`` does."""


def exchange(store: Store, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
    """Write values as ``set`` does, and then return others as ``get`` does.

    Raises:
        RendezvousConnectionError: The store was lost.
    """
    if values and keys and isinstance(store, Exchanger):
        return store.exchange(values, keys)
    if values:
        store.set(values)
    return store.get(keys) if keys else []
