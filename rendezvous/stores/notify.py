"""Tells of a value once it is written, by a thread of the store's where that has one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..errors import RendezvousError
from ..threads import start_thread
from .store import Store

Told = bytes | RendezvousError
"""A value, or why there will be none."""


@runtime_checkable
class Teller(Protocol):
    """A store whose waits have threads of their own, so that nobody else need wait for them."""

    def tell(self, key: str, hear: Callable[[Told], None]) -> None:
        """Do what the function ``tell`` does."""


def tell(store: Store, key: str, hear: Callable[[Told], None]) -> None:
    """Have ``hear`` called, from any thread, once a key is there or the store is lost or closed.

    Args:
        store: Where the value will be.
        key: The key.
        hear: Is called once; neither blocks nor raises.
    """
    if isinstance(store, Teller):
        store.tell(key, hear)
    else:
        waiter = threading.Thread(
            target=_wait, args=(store, key, hear), name="elrun-tell", daemon=True
        )
        start_thread(waiter)


def _wait(store: Store, key: str, hear: Callable[[Told], None]) -> None:
    try:
        told = store.wait([key], None)
    except RendezvousError as error:
        hear(error)
        return
    if told is not None:  # a wait without a time-out ends in no other way
        hear(told[0])
