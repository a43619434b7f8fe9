"""The version of elrun that is installed: ``pyproject.toml`` says it, the installation keeps it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("elrun")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
