"""elrun's version: ``pyproject.toml`` reads it here, as to look it up takes longer than a start."""

__version__ = "0.2.0.dev0"
