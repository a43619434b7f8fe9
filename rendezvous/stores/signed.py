"""A job's secret, and a store whose values are signed with it.

A value is written as its signature and itself; the signature is HMAC-SHA256 over the key and the
value. The key names run and round, so a record that is copied to another key, round or run is
refused like an invented one.

A value that doesn't verify counts as missing: it is not read, a wait goes on, and ``create``
replaces it, in one atomic step. Its only effect is a warning that names its key.

A missing heartbeat would do harm, though: its node would be marked as lost. So each heartbeat is
also at a second key, whose name follows from the secret; it is read where the first key holds
something else. If both were overwritten, ``UNSURE_BEAT`` is read, which is no silence.

Signatures have limits. The store itself adds to counters, so these have none, and nothing is
concluded from a counter alone: a process that may write to the store can delay a job by counters,
and can't end it. A signature does not say when a value was written. The store server closes both
gaps: it serves only clients that prove the secret (``server/seal.py``). With etcd they remain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..api.parameters import SECRET_VARIABLE, RendezvousParameters, read_file
from ..errors import RendezvousError, RendezvousStateError
from ..light_typing import cast
from ..logs import Log
from ..protocol.keys import UNSURE_BEAT, is_beat, may_count
from ..threads import start_daemon
from .store import Store, Told, WatchableStore, Will, exchange, leave_will

log = Log(__name__)

_SIGNED = b"signed "
_SIGNATURE_BYTES = 64
_HEAD_BYTES = len(_SIGNED) + _SIGNATURE_BYTES + 1
_LOOK_AGAIN_S = 0.25
_MOST_FORGERIES = 16
_MOST_WARNINGS = 100


class Secret:
    """What the nodes of a job know and nobody else; it shows in no text of elrun's.

    Args:
        value: At least one byte.
    """

    __slots__ = ("_are_equal", "_digest", "_value")

    def __init__(self, value: bytes) -> None:
        import hmac  # 3 ms of the start of a job without a secret

        self._value = value
        self._digest, self._are_equal = hmac.digest, hmac.compare_digest

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "Secret(...)"

    def sign(self, key: str, value: bytes) -> bytes:
        """Return a value with its signature for a key."""
        return b"%s%s %s" % (_SIGNED, self._signature(key, value), value)

    def verify(self, key: str, data: bytes) -> bytes | None:
        """Return the value that was signed for a key; None if it was not, or not by this secret."""
        value = data[_HEAD_BYTES:]
        good = is_signed(data) and self._are_equal(
            data[len(_SIGNED) : _HEAD_BYTES - 1], self._signature(key, value)
        )
        return value if good else None

    def second_key(self, key: str) -> str:
        """Return a name beside a key that nobody else can guess."""
        return f"{key}/{self._signature(key, b'second')[:32].decode()}"

    def derive(self, purpose: bytes) -> bytes:
        """Return a key for a purpose; 32 bytes.

        Args:
            purpose: Begins with a word of its own, and not as the signature of a record does.
        """
        return self._digest(self._value, purpose, "sha256")

    def _signature(self, key: str, value: bytes) -> bytes:
        name = key.encode("utf-8", "surrogateescape")
        # With its length before it, no key can run on into the value.
        message = b"elrun %d %s%s" % (len(name), name, value)
        return self.derive(message).hex().encode()


class SignedStore:
    """A store for those who know a secret."""

    def __init__(self, store: Store, secret: Secret) -> None:
        self._store = store
        self._secret = secret
        self._is_closed = threading.Event()
        self._refused: set[str] = set()

    def add(self, key: str, amount: int) -> int:
        return self._store.add(key, amount)

    def set(self, values: Mapping[str, bytes]) -> None:
        self._store.set(self._signed(values))

    def _signed(self, values: Mapping[str, bytes]) -> dict[str, bytes]:
        seconds = {
            self._secret.second_key(key): value for key, value in values.items() if is_beat(key)
        }
        return {key: self._secret.sign(key, value) for key, value in {**values, **seconds}.items()}

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._verified(keys, self._store.get(keys))

    def exchange(self, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
        return self._verified(keys, exchange(self._store, self._signed(values), keys))

    def _verified(self, keys: Sequence[str], values: Sequence[bytes | None]) -> list[bytes | None]:
        """Return what has been read, less the values that bear no signature."""
        found = dict(zip(keys, values, strict=True))
        read = {
            key: None if data is None else self._verify(key, data) for key, data in found.items()
        }
        missing = [key for key, value in read.items() if value is None and is_beat(key)]
        if missing:
            read |= self._second_beats(missing, found)
        return [read[key] for key in keys]

    def _second_beats(
        self, keys: Sequence[str], found: Mapping[str, bytes | None]
    ) -> dict[str, bytes | None]:
        """Return signs of life that could not be read where they should be."""
        names = [self._secret.second_key(key) for key in keys]
        beats: dict[str, bytes | None] = {}
        for key, name, data in zip(keys, names, self._store.get(names), strict=True):
            value = None if data is None else self._verify(name, data)
            is_forged = found[key] is not None or data is not None
            beats[key] = UNSURE_BEAT if value is None and is_forged else value
        return beats

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``.

        Raises:
            RendezvousStateError: A stranger keeps writing to this key.
        """
        ours = self._secret.sign(key, value)
        unwanted = self._secret.sign(key, instead_of) if instead_of else b""
        for _ in range(_MOST_FORGERIES):
            data = self._store.create(key, ours, unwanted)
            standing = self._verify(key, data)
            if standing is not None:
                return standing
            unwanted = data
        raise RendezvousStateError(
            f"{key}: somebody who doesn't know the job's secret keeps writing there"
        )

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = self._store.wait(keys, left_s)
            values = None if found is None else self.all_verified(keys, found)
            if values is not None or found is None or left_s == 0:
                return values
            # A store reports keys that come, and not values that change.
            self._is_closed.wait(_LOOK_AGAIN_S if left_s is None else min(_LOOK_AGAIN_S, left_s))

    def all_verified(self, keys: Sequence[str], found: Sequence[bytes]) -> list[bytes] | None:
        """Return the values that were found; None if one of them bears no signature."""
        values = [self._verify(key, data) for key, data in zip(keys, found, strict=True)]
        signed = [value for value in values if value is not None]
        return signed if len(signed) == len(keys) else None

    def leave_will(self, will: Will) -> None:
        leave_will(
            self._store,
            Will(self._signed(will.values), self._signed(will.create), will.unless),
        )

    def close(self) -> None:
        self._store.close()
        self._is_closed.set()

    def _verify(self, key: str, data: bytes) -> bytes | None:
        if data.isdigit() and may_count(key):
            return data
        value = self._secret.verify(key, data)
        if value is None and key not in self._refused and len(self._refused) < _MOST_WARNINGS:
            self._refused.add(key)
            log.warning(
                "%s: a record that isn't signed with the job's secret was refused; "
                "who else can write to this store?",
                key,
            )
        return value


class WatchedSignedStore(SignedStore):
    """A store for those who know a secret, with waits that need no thread of their own."""

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        """Call ``hear`` once every key has a signed value; see ``store.WatchableStore``."""
        return _Wait(self, cast("WatchableStore", self._store), keys, hear).take_back


class _Wait:
    """A wait for signed values. While one of them is forged, a thread looks again and again."""

    def __init__(
        self,
        store: SignedStore,
        watcher: WatchableStore,
        keys: Sequence[str],
        hear: Callable[[Told], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._hear = hear
        self._end = threading.Lock()  # acquired once, by the thread that ends the wait
        self._take_back = watcher.watch(keys, self._take)

    def take_back(self) -> bool:
        """End the wait; return False if it has ended or is about to."""
        is_in_time = self._end.acquire(blocking=False)
        if is_in_time:
            self._take_back()
        return is_in_time

    def _take(self, found: Told) -> None:
        try:
            if isinstance(found, list):
                found = self._store.all_verified(self._keys, found)
                if found is None:
                    start_daemon(self._look_again, "elrun-wait")
                    return
        except (RendezvousError, OSError, ValueError) as error:  # else what has called this ends
            found = error
        self._report(found)

    def _look_again(self) -> None:
        found: Told = None
        try:
            while found is None and not self._end.locked():
                found = self._store.wait(self._keys, _LOOK_AGAIN_S)
        except BaseException as error:  # noqa: BLE001  a caller would wait without end
            found = error
        self._report(found)

    def _report(self, found: Told) -> None:
        if self._end.acquire(blocking=False):
            self._hear(found)


def signed_view(store: Store, secret: Secret) -> SignedStore:
    """Return a store's view for those who know a secret."""
    if hasattr(store, "watch"):
        return WatchedSignedStore(store, secret)
    return SignedStore(store, secret)


def is_signed(data: bytes) -> bool:
    """Return whether a value bears a signature, of whatever secret."""
    return data.startswith(_SIGNED) and len(data) >= _HEAD_BYTES


def secret_of(params: RendezvousParameters) -> Secret | None:
    """Return the job's secret; None for a job without.

    Args:
        params: Settings: ``secret_file``, whose content it is, less white space at its ends, or
            ``secret``, a ``Secret``.

    Raises:
        ValueError: The file can't be read, or is empty, or the secret was given as text.
    """
    path, secret = params.get("secret_file"), params.get("secret")
    if path:
        value = read_file("secret_file", str(path)).strip()
        if not value:
            raise ValueError(f"--rdzv-conf secret_file={path}: it is empty")
        return Secret(value)
    if secret is None or isinstance(secret, Secret):
        return secret
    raise ValueError(
        "--rdzv-conf secret=...: every user of this host could read it; put it into a file and "
        f"give secret_file=..., or set {SECRET_VARIABLE}"
    )
