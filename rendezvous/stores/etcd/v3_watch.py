"""A look-out for keys of etcd v3: one stream, which a thread reads and anybody may end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...threads import start_thread
from .etcd_store import Watch
from .failover import Refused, Unreachable, plain_reason
from .v3_client import Gateway, decode, encode

_CHUNK_BYTES = 1 << 16
COUNTED = b"\x00"
"""Stands between a counter's name and an amount: see ``etcd_v3``."""

AFTER_COUNTERS = b"\x01"
"""Behind a name, it sorts after that counter's amounts and before every other key."""


class StreamWatch(Watch):
    """A watch over the range in which the keys lie.

    Args:
        gateway: The member of etcd to ask.
        values: What is there already.
        keys: The keys that are wanted.
        prefix: What they begin with in etcd.
        revision: The first revision of interest.
    """

    def __init__(
        self,
        gateway: Gateway,
        values: Mapping[str, bytes],
        keys: Sequence[str],
        prefix: bytes,
        revision: int,
    ) -> None:
        super().__init__(values, keys)
        self._gateway = gateway
        self._prefix = prefix
        names = sorted(prefix + key.encode(errors="surrogateescape") for key in keys)
        self._request: dict[str, Any] = {
            "create_request": {
                "key": encode(names[0]),
                "range_end": encode(names[-1] + AFTER_COUNTERS),
                "start_revision": str(revision),
                "progress_notify": True,
            }
        }
        self._is_settled = threading.Event()
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_stopped = False

    def start(self) -> StreamWatch:
        """Return this watch once etcd has taken it on.

        Raises:
            Unreachable: The member can't serve now.
            Refused: It refuses.
        """
        start_thread(threading.Thread(target=self._run, name="elrun-etcd-watch", daemon=True))
        if not self._is_settled.wait(self._gateway.answers_within_s):
            self._error = Unreachable("it does not answer")
        if self._error is not None:
            self.stop()
            raise self._error
        return self

    def stop(self) -> None:
        """End the watch, and the thread with it."""
        with self._lock:
            self._is_stopped = True
            held, self._socket = self._socket, None
        if held is not None:
            with suppress(OSError):  # it has ended by itself
                held.shutdown(socket.SHUT_RDWR)
            held.close()
        super().stop()

    def _run(self) -> None:
        import requests  # noqa: PLC0415  etcd's users only

        try:
            with self._gateway.stream("/watch", self._request) as response:
                if self._hold(response.raw.fileno()):
                    self._read(response)
            self._fail(Unreachable("the watch ended"))
        except (Unreachable, Refused) as error:
            self._fail(error)
        except (requests.RequestException, OSError, ValueError, KeyError) as error:
            self._fail(Unreachable(f"the watch broke off: {plain_reason(error)}"))
        finally:
            self.stop()

    def _hold(self, fileno: int) -> bool:
        """Keep a handle on the connection, by which it can be ended; return whether it is wanted.

        A response can't be closed by one thread while another one reads it.
        """
        with self._lock:
            if not self._is_stopped:
                self._socket = socket.fromfd(fileno, socket.AF_INET, socket.SOCK_STREAM)
            return not self._is_stopped

    def _read(self, response: Any) -> None:
        for line in response.iter_lines(_CHUNK_BYTES):
            if line.strip() and self._is_over_after(json.loads(line)):
                return

    def _is_over_after(self, message: Mapping[str, Any]) -> bool:
        if "error" in message:
            raise Unreachable(f"the watch ended: {message['error']}")
        result = message["result"]
        if result.get("canceled"):
            if "compact_revision" not in result:
                self._gateway.log_in_again()  # a watch isn't told why else it may not
                raise Unreachable(f"the watch ended: {result.get('cancel_reason')}")
            self._is_settled.set()  # too late for this revision: those who wait read anew
            return True
        if result.get("created"):
            self._is_settled.set()
        for event in result.get("events", ()):
            if event.get("type") == "DELETE":
                return True
            name = decode(event["kv"]["key"]).removeprefix(self._prefix)
            key, is_counter, _ = name.decode(errors="surrogateescape").partition("\0")
            if is_counter and self.wants(key):
                return True
            self.see(key, decode(event["kv"].get("value", "")))
        return self.has_found

    def _fail(self, error: Exception) -> None:
        if not self._is_settled.is_set():
            self._error = error
            self._is_settled.set()
