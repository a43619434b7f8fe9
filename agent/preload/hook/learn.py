# ruff: noqa: SLF001  the import system's parts have no public names

"""Lets a worker's agent know which modules take long to import (``--preload auto``).

Python calls one function for each module that is not there yet. Here a function stands before that
one, which looks at the clock before and after. When an import of the script's own ends that took
long, a record of it goes to a pipe of the agent's. Such a record holds the worker's process id, the
module's name and file, the seconds that it took, and the variables of the environment that the
script had set by then.

A module is left out where another process could not import it in the worker's stead, and what it
imports stands for it:

- It is no installed one: it is the user's own, and may do anything.
- It was found on a path that the script has made.
- It asks for a variable that differs from worker to worker, such as RANK. The agent hears of these.

Nothing is imported here that Python itself has not loaded before the script.
"""

import _thread
import os
import sys
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

_LONG_S = 0.05
_MOST_BYTES = 4096
"""What the kernel writes to a pipe in one piece."""

_LENGTH_DIGITS = 4
_ASKS = "!"
"""Stands for a module's file where the module asks for what differs from worker to worker."""

_INSTALLED = ("site-packages", "dist-packages")


def learn(settings: str) -> None:
    """Watch this worker's imports from now on.

    Args:
        settings: A line each: the agent's process id, the number and the inode of its pipe, and the
            names of the variables that differ from worker to worker.
    """
    agent, number, inode, *names = settings.split("\n")
    if agent != str(os.getppid()):  # a program between took the environment along
        return
    try:
        fd = os.open(f"/proc/{agent}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        is_pipe = os.fstat(fd).st_ino == int(inode)
        os.close(fd)
    except OSError:  # as where /proc shows too little
        return
    if is_pipe:
        _Learner(f"/proc/{agent}/fd/{number}", int(inode), names).begin()


class _Import:
    """One import that is under way."""

    __slots__ = ("asks", "began_at", "found", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.began_at = monotonic()
        self.asks = False
        self.found: list[tuple[str, float]] = []


class _Learner:
    """Stands before Python's own function that finds and loads a module.

    Args:
        names: The variables that differ from worker to worker.
    """

    def __init__(self, pipe: str, inode: int, names: "list[str]") -> None:
        self._pipe, self._inode = pipe, inode
        self._pid = os.getpid()
        self._path = set(sys.path)
        self._asking: set[str] = set()
        self._told: set[str] = set()
        self._changed: dict[bytes, bytes | None] = {}
        self.names = frozenset(map(os.fsencode, names))
        self.stack: list[_Import] = []
        self.main_thread = _thread.get_ident()
        self._importlib: Any = sys.modules["_frozen_importlib"]
        self._original: Callable[..., ModuleType] = self._importlib._find_and_load
        self._own: Any = None

    def begin(self) -> None:
        """Stand there."""

        def _find_and_load(name: str, import_: "Any") -> "ModuleType":
            if _thread.get_ident() != main_thread:
                return original(name, import_)
            stack.append(_Import(name))
            has_succeeded = False
            try:
                module = original(name, import_)
                has_succeeded = True
            finally:
                end(stack.pop(), has_succeeded)
            return module

        original, stack, end, main_thread = self._original, self.stack, self._end, self.main_thread
        # Python takes frames of this file's name out of tracebacks.
        code = _find_and_load.__code__.replace(co_filename=self._original.__code__.co_filename)
        _find_and_load.__code__ = code
        self._own = self._importlib._find_and_load = _find_and_load
        _replace_environment(_Environment(os.environ._data, self))  # type: ignore[attr-defined]

    def _stop(self) -> None:
        """Leave all as it would be."""
        if self._importlib._find_and_load is self._own:
            self._importlib._find_and_load = self._original
        _replace_environment(dict(os.environ._data))  # type: ignore[attr-defined]

    def note_question(self) -> None:
        """Take note that what is imported now asks for what differs from worker to worker."""
        if _thread.get_ident() == self.main_thread:
            for each in self.stack[-1:]:
                each.asks = True

    def note_change(self, name: bytes, value: "bytes | None") -> None:
        """Take note that a variable is set, or removed; what a module sets it will set again."""
        if not self.stack:
            self._changed[name] = value

    def _end(self, ended: _Import, has_succeeded: bool) -> None:
        above = self.stack[-1] if self.stack else None
        if ended.asks:
            self._asking.add(ended.name)
            if above is not None:
                above.asks = True
        took_s = monotonic() - ended.began_at
        if took_s >= _LONG_S:
            is_fit = has_succeeded and not ended.asks and self._is_installed(ended.name)
            found = [(ended.name, took_s)] if is_fit else ended.found
            if above is not None:
                above.found += found
            elif os.getpid() == self._pid:
                self._report(found)

    def _is_installed(self, name: str) -> bool:
        origin, is_package = _origin_of(name.partition(".")[0])
        folder = os.path.dirname(origin)
        if is_package:
            folder = os.path.dirname(folder)
        if folder not in self._path:
            return False
        library = os.path.dirname(os.__file__)
        return os.path.basename(folder) in _INSTALLED or folder.startswith(library)

    def _report(self, found: "list[tuple[str, float]]") -> None:
        for name in [*self._asking - self._told]:
            self._told.add(name)
            self._write(name, _ASKS)
        for name, took_s in found:
            if not self._asking.isdisjoint(_with_parents(name)):
                continue
            changes = [
                os.fsdecode(variable if value is None else variable + b"=" + value)
                for variable, value in self._changed.items()
            ]
            self._write(name, _origin_of(name)[0], f"{took_s:.3f}", *changes)

    def _write(self, *fields: str) -> None:
        record = os.fsencode("\0".join((str(self._pid), *fields)))
        length = b"%*d" % (_LENGTH_DIGITS, len(record))
        if len(length + record) > _MOST_BYTES:
            return
        try:
            fd = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_ino == self._inode:
                    os.write(fd, length + record)
            finally:
                os.close(fd)
        except OSError:  # the agent learns no more
            self._stop()


class _Environment(dict[bytes, bytes]):
    """What ``os.environ`` keeps: it lets the learner know of some of what is done with it."""

    def __init__(self, variables: "dict[bytes, bytes]", learner: _Learner) -> None:
        super().__init__(variables)
        self._learner = learner

    def __getitem__(self, name: bytes) -> bytes:
        if self._learner.stack and name in self._learner.names:
            self._learner.note_question()
        return super().__getitem__(name)

    def __iter__(self) -> "Iterator[bytes]":
        if self._learner.stack:  # most likely it looks whether such a variable is there
            self._learner.note_question()
        return super().__iter__()

    def __setitem__(self, name: bytes, value: bytes) -> None:
        super().__setitem__(name, value)
        self._learner.note_change(name, value)

    def __delitem__(self, name: bytes) -> None:
        super().__delitem__(name)
        self._learner.note_change(name, None)


def _replace_environment(variables: "dict[bytes, bytes]") -> None:
    both: tuple[Any, Any] = os.environ, os.environb
    for each in both:
        each._data = variables


def _origin_of(name: str) -> "tuple[str, bool]":
    """Return the file of a module, "" if it has none, and whether the module is a package."""
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        origin = getattr(spec, "origin", None)
        is_package = getattr(spec, "submodule_search_locations", None) is not None
    except Exception:  # noqa: BLE001  what stands in the module's place may raise anything
        return "", False
    return origin if isinstance(origin, str) else "", is_package


def _with_parents(name: str) -> "Iterator[str]":
    while name:
        yield name
        name = name.rpartition(".")[0]
