"""What a store writes in a node's name when that node's connection ends without a word.

The kernel ends the connections of a process at once, however the process ends. So a store that has
connections, the store server, can tell the other nodes of a killed agent within milliseconds. What
it writes was said by the node beforehand; a store without connections ignores it, and then the
node's missing heartbeat tells the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ..named_tuple import NamedTuple
from .store import Store


class Will(NamedTuple):
    """What is to be written once its node is gone.

    Args:
        values: Values that are written, whatever stands there.
        create: Values that are written where none is, unless a key of ``unless`` is there.
        unless: Keys that mean that the node is not needed any more.
    """

    values: Mapping[str, bytes]
    create: Mapping[str, bytes]
    unless: tuple[str, ...]


@runtime_checkable
class Executor(Protocol):
    """A store that carries wills out."""

    def leave_will(self, will: Will) -> None:
        """Replace the will that this connection has left, if any."""


def leave_will(store: Store, will: Will) -> None:
    """Leave a will with a store, if that carries wills out; one that was lost takes none."""
    if isinstance(store, Executor):
        store.leave_will(will)
