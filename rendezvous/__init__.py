"""Nodes agree on a round: who takes part, and with which ranks.

The public names below are loaded when they are first used, as most jobs need few of them.
"""

from typing import TYPE_CHECKING

from .lazily import names_elsewhere

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


__getattr__, __dir__ = names_elsewhere(
    __name__, __name__, {**dict.fromkeys(__all__, ".handler"), **_ELSEWHERE}
)
