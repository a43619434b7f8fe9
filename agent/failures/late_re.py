"""``re`` for what compares texts with patterns: it is loaded when there is a text.

Its import takes 5 ms. A worker that is killed as soon as it runs leaves no text, and the other
nodes wait to hear of it.
"""

from __future__ import annotations


class _Late:
    """Has what ``re`` has."""

    def __getattr__(self, name: str) -> object:
        import re as module  # the module's docstring says why

        value: object = getattr(module, name)
        setattr(self, name, value)
        return value


re = _Late()
