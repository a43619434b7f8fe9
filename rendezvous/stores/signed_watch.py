"""The signed view of a store whose waits need no thread; where they end, it checks signatures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ..threads import start_thread
from .notify import Told, Watcher
from .signed import Secret, SignedStore
from .store import Store

Watch = Callable[[Sequence[str], Callable[[Told], None]], Callable[[], bool]]
"""``Watcher.watch`` of a store."""


def signed_view(store: Store, secret: Secret) -> SignedStore:
    """Return a store's view for those who know a secret."""
    if isinstance(store, Watcher):
        return WatchedSignedStore(store, store.watch, secret)
    return SignedStore(store, secret)


class WatchedSignedStore(SignedStore):
    """A store for those who know a secret, with waits that need no thread of their own."""

    def __init__(self, store: Store, watch: Watch, secret: Secret) -> None:
        super().__init__(store, secret)
        self._watch = watch

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        """Call ``hear`` once every key has a signed value; see ``notify.Watcher``."""
        wait = _Wait(self, self._watch, keys, hear)
        wait.begin()
        return wait.take_back


class _Wait:
    """A wait for signed values. While one of them is forged, a thread looks again and again."""

    def __init__(
        self,
        store: SignedStore,
        watch: Watch,
        keys: Sequence[str],
        hear: Callable[[Told], None],
    ) -> None:
        self._store = store
        self._watch = watch
        self._keys = keys
        self._hear = hear
        # The lock guards what follows.
        self._lock = threading.Lock()
        self._is_over = False
        self._take_back: Callable[[], bool] | None = None

    def begin(self) -> None:
        """Wait for values, signed or not."""
        take_back = self._watch(self._keys, self._take)
        with self._lock:
            self._take_back = take_back
            is_over = self._is_over
        if is_over:  # another thread may have taken this wait back before it was there
            take_back()

    def take_back(self) -> bool:
        """End the wait; return False if it has ended or is about to."""
        with self._lock:
            if self._is_over:
                return False
            self._is_over, take_back = True, self._take_back
        if take_back is not None:
            take_back()
        return True

    def _take(self, found: Told) -> None:
        if isinstance(found, list):
            values = self._store.all_verified(self._keys, found)
            if values is None:
                self._look_later()
                return
            found = values
        self._end(found)

    def _end(self, found: Told) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        self._hear(found)

    def _look_later(self) -> None:
        try:
            start_thread(threading.Thread(target=self._look_again, name="elrun-wait", daemon=True))
        except OSError as error:
            self._end(error)

    def _look_again(self) -> None:
        self._store.await_change()
        with self._lock:
            if self._is_over:
                return
        try:
            self.begin()
        except BaseException as error:  # noqa: BLE001  a caller would wait without end
            self._end(error)
