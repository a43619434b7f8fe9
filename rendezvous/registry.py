"""Which backends there are, by the names that ``--rdzv-backend`` takes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .handler import RendezvousHandler, RendezvousHandlerCreator, RendezvousParameters

PLUG_INS = "torchrun.handlers"

# A backend's module is imported when the backend is asked for, and with it whatever it needs.
_BUILT_IN = {
    "c10d": (".c10d", "create_c10d"),
    "standalone": (".solo", "create_standalone"),
    "static": (".solo", "create_static"),
}
_TO_COME = frozenset({"etcd", "etcd-v2", "etcd-v3"})


class RendezvousHandlerRegistry:
    """Constructors of handlers by the name of their backend."""

    def __init__(self) -> None:
        self._creators: dict[str, RendezvousHandlerCreator] = {}

    def register(self, backend: str, creator: RendezvousHandlerCreator) -> None:
        """Add a backend.

        Args:
            backend: Its name.
            creator: Makes a handler of the parameters.

        Raises:
            ValueError: The name is empty, or another constructor has it.
        """
        if not backend:
            raise ValueError("the name of a rendezvous backend must not be empty")
        if self._creators.setdefault(backend, creator) is not creator:
            raise ValueError(f"there is a rendezvous backend {backend!r} already")

    def known_backends(self) -> list[str]:
        """Return the names of the backends that can be used now, sorted; plug-ins not included."""
        return sorted({*_BUILT_IN, *self._creators})

    def is_known(self, backend: str) -> bool:
        """Return whether there is such a backend, be it as a plug-in that isn't loaded yet.

        Installed packages are looked through only for a name that is none of ``known_backends()``.
        """
        return (
            backend in self._creators or backend in _BUILT_IN or _find_plug_in(backend) is not None
        )

    def create_handler(self, params: RendezvousParameters) -> RendezvousHandler:
        """Return a handler of the backend that the parameters name.

        Raises:
            ValueError: There is no such backend, or it can't use the parameters.
        """
        return self._creator_of(params.backend)(params)

    def _creator_of(self, backend: str) -> RendezvousHandlerCreator:
        if backend in self._creators:
            return self._creators[backend]
        if backend in _BUILT_IN:
            module, function = _BUILT_IN[backend]
            creator: RendezvousHandlerCreator = getattr(
                import_module(module, __package__), function
            )
            return creator
        plug_in = _find_plug_in(backend)
        if plug_in is None:
            raise ValueError(_unknown(backend, self.known_backends()))
        return _load(backend, plug_in)


rendezvous_handler_registry = RendezvousHandlerRegistry()


def known_backends() -> list[str]:
    """Return the names of the backends that can be used now, sorted; plug-ins not included."""
    return rendezvous_handler_registry.known_backends()


def get_rendezvous_handler(params: RendezvousParameters) -> RendezvousHandler:
    """Return a handler of the backend that the parameters name.

    Backends of other packages are found through the entry points ``torchrun.handlers``.

    Args:
        params: What the backend is constructed from.

    Raises:
        ValueError: There is no such backend, or it can't use the parameters.
    """
    return rendezvous_handler_registry.create_handler(params)


def _find_plug_in(backend: str) -> Callable[[], Any] | None:
    """Return what loads the plug-in of this name, or None where no package declares it."""
    from importlib.metadata import entry_points  # noqa: PLC0415  15 ms that few jobs need

    for entry_point in entry_points(group=PLUG_INS, name=backend):
        return entry_point.load
    return None


def _load(backend: str, plug_in: Callable[[], Any]) -> RendezvousHandlerCreator:
    try:
        # As torchrun has it: the entry point names a function that returns the constructor.
        creator: RendezvousHandlerCreator = plug_in()()
    except Exception as error:  # whatever the other package raises
        raise ValueError(
            f"the rendezvous backend {backend!r} is a plug-in that can't be loaded: {error!r}"
        ) from error
    return creator


def _unknown(backend: str, known: list[str]) -> str:
    if backend in _TO_COME:
        return (
            f"the rendezvous backend {backend!r} is not in this version of elrun yet; "
            f"give one of {', '.join(known)}"
        )
    from difflib import get_close_matches  # noqa: PLC0415  only for those who mistyped

    near = get_close_matches(backend, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no rendezvous backend {backend!r}; give one of {', '.join(known)}{hint}"
