"""Whether any of several nodes is alive, found out by listening to one of them as a rule."""

from __future__ import annotations

from collections.abc import Iterable

from .heartbeat import Heart


class Lookout:
    """Listens to the first of several beats, and to all of them once that is silent.

    So hundreds of nodes may look out for the same ones, and read one beat each.

    Args:
        heart: The heart of the node that looks out; it listens to nothing else meanwhile.
        keys: Where the others beat, one at least.
    """

    def __init__(self, heart: Heart, keys: Iterable[str]) -> None:
        self._heart = heart
        # A thousand deputies look out for all who sit before them: most never need more than one.
        self._further = iter(keys)
        self._heard: tuple[str, ...] = (next(self._further),)
        heart.listen_to(self._heard)

    def are_gone(self) -> bool:
        """Return whether all have been silent for too long; to be asked every now and then."""
        if len(self._heart.silent()) < len(self._heard):
            return False
        further = tuple(self._further)
        if further:
            self._heard += further
            self._heart.listen_to(self._heard)
        return not further
