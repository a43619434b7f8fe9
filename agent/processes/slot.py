"""A place in the table of descriptors that is kept free for one descriptor after the other."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Slot:
    """A descriptor number that stands for whatever is put there, and for nothing else."""

    def __init__(self) -> None:
        self.number = os.open(os.devnull, os.O_RDONLY)

    @contextlib.contextmanager
    def hold(self, fd: int) -> Iterator[int]:
        """Put a descriptor there for a while, and give the number."""
        os.dup2(fd, self.number, inheritable=False)
        try:
            yield self.number
        finally:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, self.number, inheritable=False)
            os.close(nothing)

    def close(self) -> None:
        """Give the number back."""
        os.close(self.number)
