"""Keeps the files of modules that may be imported later: an upgrade on disk then changes nothing.

A job runs for days, and most of what its end needs is imported at its end. If its package has been
replaced or removed meanwhile, that import would fail, or mix two versions. A megabyte of byte code
is kept as it is: to compress it takes ten times as long as to read it. Each file is given back when
its module is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, spec_from_file_location

from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any

log = Log(__name__)

_HEADER = 16
_MOST_BYTES = 64 << 20


class _KeptFile(NamedTuple):
    """A module's file as it was.

    Args:
        path: The source's path.
        read_from: The path of what was read: byte code if that is valid, else the source.
        content: The bytes of that.
        mtime: When the source was changed last, in seconds.
        size: The source's size in bytes.
    """

    path: str
    read_from: str
    content: bytes
    mtime: float
    size: int


class KeptModules:
    """A finder of modules whose files it has read before."""

    def __init__(self) -> None:
        self._files: dict[str, _KeptFile] = {}
        self._left_bytes = _MOST_BYTES

    def keep(self, packages: Iterable[str], but_not: Iterable[str] = ()) -> Iterator[None]:
        """Read the files of all modules of some packages that are not imported yet.

        Args:
            packages: Their full names; one that is not made of files is left as it is.
            but_not: Modules and packages of those that nobody will import.

        Yields:
            After each file.
        """
        left_out = frozenset(but_not)
        for package in packages:
            for folder in _folders_of(package):
                for name, path in _modules_in(package, folder, left_out):
                    if name not in sys.modules and name not in self._files:
                        with contextlib.suppress(OSError):  # it may be on its way to be replaced
                            self._read(name, path)
                        yield

    def _read(self, name: str, path: str) -> None:
        if self._left_bytes <= 0:
            return
        status = os.stat(path)
        read_from, data = cache_from_source(path), b""
        with contextlib.suppress(OSError):
            data = _content_of(read_from)
        if not _is_valid(data, status):
            read_from, data = path, _content_of(path)
        self._files[name] = _KeptFile(path, read_from, data, status.st_mtime, status.st_size)
        self._left_bytes -= len(data)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to load a module that is kept; None: it isn't."""
        found = self._files.get(fullname)
        if found is None:
            return None
        loader = _KeptLoader(fullname, found.path, self._files)
        return spec_from_file_location(fullname, found.path, loader=loader)


class _KeptLoader(SourceFileLoader):
    """Loads a module from what was read of its file, and gives that back."""

    def __init__(self, fullname: str, path: str, files: dict[str, _KeptFile]) -> None:
        super().__init__(fullname, path)
        self._files = files

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; if it fails, its file stays for another attempt."""
        super().exec_module(module)
        self._files.pop(self.name, None)

    def get_data(self, path: str) -> bytes:
        """Return the content of the file that is kept."""
        kept = self._kept(path)
        if path != kept.read_from:
            raise FileNotFoundError(path)
        return kept.content

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Return time and size of a source file when it was read."""
        kept = self._kept(path)
        return {"mtime": kept.mtime, "size": kept.size}

    def _kept(self, path: str) -> _KeptFile:
        kept = self._files.get(self.name)
        if kept is None:
            raise FileNotFoundError(path)
        return kept

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        """Write nothing: what is on disk by now may be another version's."""


def keep_for_later(packages: Iterable[str], but_not: Iterable[str] = ()) -> Iterator[None]:
    """Keep the modules of packages for this process, ahead of what is on disk later.

    What an earlier job of this process has kept stays; this one may need more.

    Yields:
        After each file that was read; all are kept once there is no more.
    """
    before = [each for each in sys.meta_path if isinstance(each, KeptModules)]
    kept = before[0] if before else KeptModules()
    yield from kept.keep(packages, but_not)
    if not before:
        log.info("elrun's modules are kept as they are on disk now")
        sys.meta_path.insert(0, kept)


def _folders_of(package: str) -> list[str]:
    module = sys.modules.get(package)
    if module is not None:
        return list(getattr(module, "__path__", ()))
    spec = PathFinder.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _modules_in(package: str, folder: str, left_out: Container[str]) -> Iterator[tuple[str, str]]:
    """Return names and paths of a package's modules."""
    for parent, folders, files in os.walk(folder):
        inner = os.path.relpath(parent, folder)
        prefix = package if inner == "." else f"{package}.{inner.replace(os.sep, '.')}"
        folders[:] = [
            each
            for each in folders
            if each.isidentifier() and each != "__pycache__" and f"{prefix}.{each}" not in left_out
        ]
        for file in files:
            stem, extension = os.path.splitext(file)
            name = prefix if stem == "__init__" else f"{prefix}.{stem}"
            if extension == ".py" and name not in left_out:
                yield name, os.path.join(parent, file)


def _is_valid(compiled: bytes, source: os.stat_result) -> bool:
    """Return whether a file of byte code says that it was made from a source as that is now."""
    words = [int.from_bytes(compiled[at : at + 4], "little") for at in (4, 8, 12)]
    stamps = [0, int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF]
    return compiled[:4] == MAGIC_NUMBER and len(compiled) > _HEADER and words == stamps


def _content_of(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
