# ruff: noqa: SLF001  what the interpreter does at its end has no public names
"""Ends a worker that is a function, as Python would end it.

Two kinds of process can't have Python's own end. One that was forked has a copy of its parent's
stack below it, which must never be unwound. And one that has imported torch: a process group that
nobody destroyed has threads there, and if one still works when C tears everything down, torch
aborts; on a busy machine, many a job whose function had returned its value would fail by SIGABRT.
For these, what Python does at the end is done here, and then the process ends at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .inherited_exits import InheritedExits

_PLAIN = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair, io.BytesIO)


def exit_code_of(leaving: SystemExit) -> int:
    """Return the exit code that Python gives a process, and print what is no code, as Python does.

    Args:
        leaving: What ends the process.
    """
    code = leaving.code
    if code is None:
        return 0
    if isinstance(code, int):
        # What a C long does not hold is -1, and the kernel takes the last eight bits.
        return int(code) & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    with contextlib.suppress(Exception):  # the user's __str__, or no standard error
        print(code, file=sys.stderr)
    return 1


def end_worker(exitcode: int, inherited: InheritedExits | None) -> NoReturn:
    """End this process; nothing of the caller's may be held by an exception any more.

    Args:
        exitcode: Its exit code; -n: of signal n.
        inherited: What it inherited, if it was forked from a process that goes on.

    Raises:
        SystemExit: Python itself can end it.
    """
    is_forked = inherited is not None
    if exitcode >= 0 and not is_forked and "torch" not in sys.modules:
        _try(_flush_files)  # else a garbage collector may take the layer below the text first
        raise SystemExit(exitcode)

    def end() -> NoReturn:
        try:
            _flush_all(is_forked=is_forked)
        finally:
            end_at_once(exitcode)

    try:
        _try(threading._shutdown)  # type: ignore[attr-defined]  # waits for threads
        if "multiprocessing.util" in sys.modules:
            _try(sys.modules["multiprocessing.util"]._exit_function)  # of its children
        if inherited is not None:
            inherited.run_own(end)
        _try(atexit._run_exitfuncs)
        end()
    finally:
        end_at_once(exitcode)


def end_at_once(exitcode: int) -> NoReturn:
    """End this process and do nothing else.

    Args:
        exitcode: Its exit code; -n: of signal n.
    """
    if exitcode < 0:
        signal.signal(-exitcode, signal.SIG_DFL)
        os.kill(os.getpid(), -exitcode)
    os._exit(exitcode if exitcode >= 0 else 128 - exitcode)


def _flush_all(*, is_forked: bool) -> None:
    _try(_flush_files)
    _try(gc.collect)
    if not is_forked:
        gc.unfreeze()  # what was preloaded is this process's own; what was forked is the parent's
    _try(lambda: _flush_files(finish=True))
    _try(_flush_files_of_c)


def _flush_files(*, finish: bool = False) -> None:
    """Flush whatever files are open, the layer with the text first, and the standard streams.

    Args:
        finish: Whether to close compressed files: they end by what that writes.
    """
    objects = gc.get_objects()
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, io.IOBase)}
    files = [each for each in objects if type(each) in kinds]
    texts = [each for each in files if isinstance(each, io.TextIOBase)]
    _call_each(each.flush for each in (*texts, sys.stdout, sys.stderr) if each is not None)
    layers = [each for each in files if isinstance(each, io.BufferedIOBase)]
    if finish:
        _call_each(each.close for each in layers if not isinstance(each, _PLAIN))
    _call_each(each.flush for each in layers)


def _flush_files_of_c() -> None:
    import ctypes  # at the end of function workers only

    ctypes.CDLL(None).fflush(None)


def _call_each(calls: Iterable[Callable[[], Any]]) -> None:
    for call in calls:
        with contextlib.suppress(Exception):  # closed, its reader gone, or the user's own class
            call()


def _try(act: Callable[[], Any]) -> None:
    try:
        act()
    except BaseException:  # noqa: BLE001  whatever it raises, the others have their turn
        with contextlib.suppress(BaseException):
            traceback.print_exc()
