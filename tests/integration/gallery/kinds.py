"""Reads the gallery's table, ``kinds.toml``."""

from pathlib import Path

import tomllib
from gallery.kind import Kind

_TABLE = Path(__file__).with_name("kinds.toml")


def _kind(entry: dict[str, object]) -> Kind:
    values = {key: tuple(each) if isinstance(each, list) else each for key, each in entry.items()}
    instead = {setting: tuple(words) for setting, words in entry.get("instead", {}).items()}
    return Kind(**values | {"instead": instead})


KINDS = {name: _kind(entry) for name, entry in tomllib.loads(_TABLE.read_text()).items()}
"""Every kind of death by its name, in the order of the page."""
