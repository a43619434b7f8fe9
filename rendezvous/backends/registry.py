"""Rendezvous backends by name; one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from ..api.handler import RendezvousHandler, RendezvousHandlerCreator
from ..api.parameters import TEXT, Kind, RendezvousParameters, require
from ..errors import UsageRuntimeError
from ..logs import Log

log = Log(__name__)

_PARAMETERS = Kind(("backend",), "RendezvousParameters")
_CREATOR = Kind(("__call__",), "a function that returns a handler")

PLUGIN_GROUP = "torchrun.handlers"

_BUILT_IN = {
    "c10d": (".c10d", "create_c10d"),
    "etcd": (".etcd", "create_etcd"),
    "etcd-v2": (".etcd", "create_etcd_v2"),
    "etcd-v3": (".etcd", "create_etcd_v3"),
    "standalone": (".solo", "create_standalone"),
    "static": (".solo", "create_static"),
}


class RendezvousHandlerRegistry:
    """Constructors of handlers by the name of their backend."""

    def __init__(self) -> None:
        self._creators: dict[str, RendezvousHandlerCreator] = {}

    def register(self, backend: str, creator: RendezvousHandlerCreator) -> None:
        """Make a backend known.

        Args:
            backend: Its name, as ``--rdzv-backend`` takes it.
            creator: Called with the parameters; returns the handler.

        Raises:
            ValueError: The name is empty, or taken by another constructor; or it is no name, or
                the constructor is no function.
        """
        require(TEXT, backend=backend)
        require(_CREATOR, creator=creator)
        if not backend:
            raise ValueError("the name of a rendezvous backend must not be empty")
        if self._creators.setdefault(backend, creator) != creator:
            raise ValueError(f"the rendezvous backend {backend!r} is registered already")

    def create_handler(self, params: RendezvousParameters) -> RendezvousHandler:
        """Return a new handler of the backend that the parameters name.

        A name that is not registered is looked for among elrun's own, then among the plug-ins of
        the entry-point group ``torchrun.handlers``.

        Raises:
            ValueError: The backend is unknown, or its plug-in can't be loaded, or it refuses
                the parameters; a RuntimeError as well, where its handler has another name.
        """
        require(_PARAMETERS, params=params)
        built_in = None
        creator = self._creators.get(params.backend)
        if creator is None:
            creator = built_in = _built_in_creator(params.backend)
        if creator is None:
            creator = _plugin_creator(params.backend)
        if creator is None:
            raise ValueError(_unknown(params.backend, [*self._creators, *known_backends()]))
        handler = creator(params)
        if handler.get_backend() != params.backend:
            raise UsageRuntimeError(
                f"the rendezvous backend {params.backend!r} made a handler that says it is "
                f"{handler.get_backend()!r}"
            )
        if built_in is not None:
            for key in sorted(set(params.config) - params.asked):
                log.warning("--rdzv-conf %s", _without_effect(key, params))
        return handler


rendezvous_handler_registry = RendezvousHandlerRegistry()
"""The registry that ``get_rendezvous_handler`` uses; programs may register their own backends."""


def get_rendezvous_handler(params: RendezvousParameters) -> RendezvousHandler:
    """Return a new handler from the common registry; see ``create_handler``."""
    return rendezvous_handler_registry.create_handler(params)


def known_backends() -> list[str]:
    """Return the names of elrun's backends and of the plug-ins that are installed."""
    return sorted({*_BUILT_IN, *_plugins()})


def _built_in_creator(backend: str) -> RendezvousHandlerCreator | None:
    if backend not in _BUILT_IN:
        return None
    module, name = _BUILT_IN[backend]
    creator: RendezvousHandlerCreator = getattr(import_module(module, __package__), name)
    return creator


def _plugin_creator(backend: str) -> RendezvousHandlerCreator | None:
    plugin = _plugins().get(backend)
    if plugin is None:
        return None
    try:
        # torchrun's plug-ins name a function without arguments that returns the constructor.
        creator: RendezvousHandlerCreator = plugin.load()()  # type: ignore[attr-defined]
    except Exception as error:  # whatever a foreign package raises
        raise ValueError(
            f"the plug-in for the rendezvous backend {backend!r} can't be loaded: {error!r}"
        ) from error
    return creator


def _plugins() -> dict[str, object]:
    from importlib.metadata import entry_points  # 20 ms that few jobs need

    return {point.name: point for point in entry_points(group=PLUGIN_GROUP)}


def _without_effect(key: str, params: RendezvousParameters) -> str:
    said = f"{key}={params.config[key]}: the {params.backend} rendezvous has no such setting"
    return f"{said}, so it has no effect{_hint(key, params.asked)}"


def _unknown(backend: str, known: list[str]) -> str:
    names = ", ".join(sorted(set(known)))
    hint = _hint(backend, known)
    return f"the rendezvous backend {backend!r} is unknown: the known ones are {names}{hint}"


def _hint(name: str, known: Iterable[str]) -> str:
    import difflib  # only a misspelt name needs it

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
