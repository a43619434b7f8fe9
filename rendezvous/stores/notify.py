"""Reports the end of a wait by a call, without a thread of its own where a store can do that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable

from ..errors import RendezvousError
from ..threads import start_thread
from .store import Store

Told = list[bytes] | BaseException | None
"""The values, or why there will be none; None: the time was over first."""


@runtime_checkable
class Watcher(Protocol):
    """A store whose waits need no thread of their own."""

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        """Call ``hear`` once every key is there, or the store is lost or closed.

        Args:
            keys: At least one.
            hear: Is called once, from any thread; neither blocks nor raises.

        Returns:
            Ends the wait; returns False if ``hear`` has been called or is about to be.
        """


def watch(
    store: Store, keys: Sequence[str], timeout_s: float | None, hear: Callable[[Told], None]
) -> Callable[[], bool] | None:
    """Call ``hear`` once every key is there, the time is over, or the store is lost or closed.

    Args:
        store: Where the values will be.
        keys: At least one.
        timeout_s: See ``Store.wait``.
        hear: Is called once, from any thread; neither blocks nor raises.

    Returns:
        What ends the wait, for the caller to call after the time-out: then ``hear`` is not called.
        None: the wait ends by itself.

    Raises:
        NoThreadError: The system grants no thread.
    """
    try:
        if timeout_s is not None and timeout_s <= 0:
            hear(store.wait(keys, timeout_s))
            return None
        if hasattr(store, "watch"):  # ``isinstance`` of a protocol looks for 30 to 80 µs
            return cast("Watcher", store).watch(keys, hear)
    except RendezvousError as error:
        hear(error)
        return None
    waiter = threading.Thread(
        target=_wait, args=(store, keys, timeout_s, hear), name="elrun-wait", daemon=True
    )
    start_thread(waiter)
    return None


def _wait(
    store: Store, keys: Sequence[str], timeout_s: float | None, hear: Callable[[Told], None]
) -> None:
    try:
        found = store.wait(keys, timeout_s)
    except BaseException as error:  # noqa: BLE001  a caller would wait without end
        hear(error)
    else:
        hear(found)
