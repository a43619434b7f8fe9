"""Calls that may never return, each in a thread that is left to itself when its time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def in_time(function: Callable[[], _T], timeout_s: float) -> _T:
    """Return what a function returns, or leave it to itself after the time-out.

    Raises:
        Exception: What it raised.
        TimeoutError: It did not return in time.
    """
    results: list[_T] = []
    errors: list[Exception] = []
    is_over = threading.Event()

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001  torch's; the caller's thread raises it
            errors.append(error)
        finally:
            is_over.set()

    threading.Thread(target=run, name="elrun-store-connect", daemon=True).start()
    if not is_over.wait(timeout_s):
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    if errors:
        raise errors[0]
    return results[0]
