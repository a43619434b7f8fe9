"""Nodes agree on a round: who takes part, and with which ranks.

The public names below are loaded when they are first used, as most jobs need few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .handler import (
        NodeProfile,
        Placement,
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousError,
        RendezvousGracefulExitError,
        RendezvousHandler,
        RendezvousHandlerCreator,
        RendezvousInfo,
        RendezvousParameters,
        RendezvousStateError,
        RendezvousStoreInfo,
        RendezvousTimeoutError,
        RoundHandler,
        Verdict,
        VerdictKind,
    )
    from .registry import (
        RendezvousHandlerRegistry,
        get_rendezvous_handler,
        rendezvous_handler_registry,
    )

__all__ = [
    "NodeProfile",
    "Placement",
    "RendezvousClosedError",
    "RendezvousConnectionError",
    "RendezvousError",
    "RendezvousGracefulExitError",
    "RendezvousHandler",
    "RendezvousHandlerCreator",
    "RendezvousHandlerRegistry",
    "RendezvousInfo",
    "RendezvousParameters",
    "RendezvousStateError",
    "RendezvousStoreInfo",
    "RendezvousTimeoutError",
    "RoundHandler",
    "Verdict",
    "VerdictKind",
    "get_rendezvous_handler",
    "rendezvous_handler_registry",
]

_IN_REGISTRY = frozenset(
    {"RendezvousHandlerRegistry", "get_rendezvous_handler", "rendezvous_handler_registry"}
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = ".registry" if name in _IN_REGISTRY else ".handler"
    return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
