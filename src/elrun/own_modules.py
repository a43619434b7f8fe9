"""Finds elrun's own modules without asking every finder that the interpreter has.

A start imports a hundred modules of elrun's, and the search for one takes as long as to run it: the
finders are asked one after the other, each folder is listed, and each name is tried with the
endings of libraries first. This finder looks where a module of elrun's is, and reads its byte code.
It leaves to the others what it does not find, and to the standard loader what is not compiled.
To import ``importlib.util`` for that would be a twentieth of a start.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER, _compile_bytecode  # type: ignore[attr-defined]
from importlib.machinery import BuiltinImporter, ModuleSpec, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

_PACKAGE = __name__.partition(".")[0] + "."
_CHECKED_BY_TIME = MAGIC_NUMBER + bytes(4)
_HEADER = 16
_MOST_BYTES = 1 << 20
_WORD = 0xFFFFFFFF


class _OwnLoader(SourceFileLoader):
    """Loads a module from its byte code, if that was made from the source as it is now.

    Args:
        fullname: The module's name.
        path: Its source.
        compiled: Its byte code.
        source: What the system knows of the source.
    """

    def __init__(self, fullname: str, path: str, compiled: str, source: os.stat_result) -> None:
        super().__init__(fullname, path)
        self._compiled = compiled
        changed, size = int(source.st_mtime) & _WORD, source.st_size & _WORD
        self._header = _CHECKED_BY_TIME + (size << 32 | changed).to_bytes(8, "little")

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            fd = os.open(self._compiled, os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.read(fd, _MOST_BYTES)
            finally:
                os.close(fd)
        except OSError:
            return super().get_code(fullname)
        if content[:_HEADER] != self._header:
            return super().get_code(fullname)
        try:  # it names the code after the source, which may have been compiled elsewhere
            code: CodeType = _compile_bytecode(
                memoryview(content)[_HEADER:], fullname, self._compiled, self.path
            )
        except EOFError:  # this was not all of it
            return super().get_code(fullname)
        return code


class OwnModules:
    """A finder of elrun's modules."""

    def __init__(self) -> None:
        self._ending = f".{sys.implementation.cache_tag}.pyc"

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to load a module of elrun's; None: others may know."""
        if not path or not fullname.startswith(_PACKAGE):
            return None
        folder, stem = path[0], fullname.rpartition(".")[2]
        inner = f"{folder}/{stem}"
        try:
            return self._spec(fullname, folder, stem)
        except OSError:  # it is a package, or not here
            pass
        try:
            spec = self._spec(fullname, inner, "__init__")
        except OSError:
            return None
        spec.submodule_search_locations = [inner]
        return spec

    def _spec(self, fullname: str, folder: str, stem: str) -> ModuleSpec:
        source, compiled = f"{folder}/{stem}.py", f"{folder}/__pycache__/{stem}{self._ending}"
        loader = _OwnLoader(fullname, source, compiled, os.stat(source))
        spec = ModuleSpec(fullname, loader, origin=source)
        spec.has_location = True
        spec.cached = compiled
        return spec


def find_own_modules_first() -> None:
    """Have this process find elrun's modules by the short way, where byte code lies beside them.

    Finders that somebody has put before those of the interpreter are asked first, as ever.
    """
    finders = sys.meta_path
    is_beside = sys.pycache_prefix is None and not sys.flags.optimize
    if is_beside and BuiltinImporter in finders:
        finders.insert(finders.index(BuiltinImporter), OwnModules())
