"""Keeps the files of modules that may be imported later: an upgrade on disk then changes nothing.

A job runs for days, and most of what its end needs is imported at its end. If its package has been
replaced or removed meanwhile, that import would fail, or mix two versions.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, spec_from_file_location

from ...rendezvous.logs import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any

log = Log(__name__)

_HEADER = 16
_MOST_BYTES = 64 << 20


class KeptModules:
    """A finder of modules whose files it has read before."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._content: dict[str, bytes] = {}
        self._stats: dict[str, Mapping[str, Any]] = {}
        self._left_bytes = _MOST_BYTES

    def keep(self, packages: Iterable[str]) -> None:
        """Read the files of all modules of some packages that are not imported yet.

        Args:
            packages: Their full names; one that is not made of files is left as it is.
        """
        for package in packages:
            for folder in _folders_of(package):
                for name, path in _modules_in(package, folder):
                    if name not in sys.modules and name not in self._paths:
                        with contextlib.suppress(OSError):  # it may be on its way to be replaced
                            self._read(name, path)

    def _read(self, name: str, path: str) -> None:
        if self._left_bytes <= 0:
            return
        status = os.stat(path)
        compiled = cache_from_source(path)
        data = b""
        with contextlib.suppress(OSError):
            data = _content_of(compiled)
        if _is_valid(data, status):
            self._content[compiled] = data
        else:
            data = self._content[path] = _content_of(path)
        self._stats[path] = {"mtime": status.st_mtime, "size": status.st_size}
        self._paths[name] = path
        self._left_bytes -= len(data)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to load a module that is kept; None: it isn't."""
        found = self._paths.get(fullname)
        if found is None:
            return None
        loader = _KeptLoader(fullname, found, self._content, self._stats)
        return spec_from_file_location(fullname, found, loader=loader)


class _KeptLoader(SourceFileLoader):
    """Loads a module from what was read of its files."""

    def __init__(
        self,
        fullname: str,
        path: str,
        content: Mapping[str, bytes],
        stats: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__(fullname, path)
        self._content = content
        self._stats = stats

    def get_data(self, path: str) -> bytes:
        """Return the content of a file that is kept."""
        if path not in self._content:
            raise FileNotFoundError(path)
        return self._content[path]

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Return time and size of a source file when it was read."""
        return self._stats[path]

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        """Write nothing: what is on disk by now may be another version's."""


def keep_for_later(packages: Iterable[str]) -> None:
    """Keep the modules of packages for this process, once, ahead of what is on disk later."""
    if any(isinstance(each, KeptModules) for each in sys.meta_path):
        return
    kept = KeptModules()
    kept.keep(packages)
    log.info("elrun's modules are kept as they are on disk now")
    sys.meta_path.insert(0, kept)


def _folders_of(package: str) -> list[str]:
    module = sys.modules.get(package)
    if module is not None:
        return list(getattr(module, "__path__", ()))
    spec = PathFinder.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _modules_in(package: str, folder: str) -> Iterator[tuple[str, str]]:
    """Return names and paths of a package's modules."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each.isidentifier() and each != "__pycache__"]
        inner = os.path.relpath(parent, folder)
        prefix = package if inner == "." else f"{package}.{inner.replace(os.sep, '.')}"
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension == ".py":
                path = os.path.join(parent, file)
                yield (prefix if stem == "__init__" else f"{prefix}.{stem}"), path


def _is_valid(compiled: bytes, source: os.stat_result) -> bool:
    """Return whether a file of byte code says that it was made from a source as that is now."""
    words = [int.from_bytes(compiled[at : at + 4], "little") for at in (4, 8, 12)]
    stamps = [0, int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF]
    return compiled[:4] == MAGIC_NUMBER and len(compiled) > _HEADER and words == stamps


def _content_of(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
