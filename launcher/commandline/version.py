"""elrun's version, the same as in ``pyproject.toml``: to look it up takes longer than a start."""

__version__ = "0.1.0"
