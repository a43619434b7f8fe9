"""Nodes agree on a round: who takes part, and with which ranks.

The public names below are loaded when they are first used, as most jobs need few of them.
"""

from .lazy import names_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api.handler import (
        NodeProfile,
        Placement,
        RendezvousHandler,
        RendezvousHandlerCreator,
        RendezvousInfo,
        RoundHandler,
        Verdict,
        VerdictKind,
    )
    from .api.parameters import RendezvousParameters, RendezvousStoreInfo
    from .backends.registry import (
        RendezvousHandlerRegistry,
        get_rendezvous_handler,
        rendezvous_handler_registry,
    )
    from .errors import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousError,
        RendezvousGracefulExitError,
        RendezvousStateError,
        RendezvousTimeoutError,
    )
    from .stores.etcd.server import EtcdServer

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
    **dict.fromkeys([name for name in __all__ if name.endswith("Error")], ".errors"),
    "EtcdServer": ".stores.etcd.server",
    "RendezvousHandlerRegistry": ".backends.registry",
    "get_rendezvous_handler": ".backends.registry",
    "rendezvous_handler_registry": ".backends.registry",
}


if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(
        __name__, __name__, {**dict.fromkeys(__all__, ".api.handler"), **_ELSEWHERE}
    )
