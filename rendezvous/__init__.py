"""Nodes agree on a round: who takes part, and with which ranks.

The public names below are loaded when they are first used, as most jobs need few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .etcd_server import EtcdServer
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
        RendezvousStateError,
        RendezvousStoreInfo,
        RendezvousTimeoutError,
        RoundHandler,
        Verdict,
        VerdictKind,
    )
    from .parameters import RendezvousParameters
    from .registry import (
        RendezvousHandlerRegistry,
        get_rendezvous_handler,
        rendezvous_handler_registry,
    )

__all__ = [
    "EtcdServer",
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

_ELSEWHERE = {
    "EtcdServer": ".etcd_server",
    "RendezvousHandlerRegistry": ".registry",
    "get_rendezvous_handler": ".registry",
    "rendezvous_handler_registry": ".registry",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, ".handler"), __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
