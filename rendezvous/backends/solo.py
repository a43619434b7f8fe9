"""The rendezvous of a single node, which needs no store to meet in."""

from __future__ import annotations

import threading

from ..api.handler import (
    NodeProfile,
    Placement,
    RendezvousInfo,
    RoundHandler,
    Verdict,
    VerdictKind,
)
from ..api.parameters import RendezvousParameters, RendezvousStoreInfo
from ..errors import RendezvousClosedError
from ..network.addresses import Endpoint
from ..network.ports import PortClaim, listen_at
from ..stores.memory import MemoryStore
from ..stores.torch_view import RoundStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence

DEFAULT_MASTER_PORT = 29500

ETCD_SETTINGS = (
    *("protocol", "cacert", "ca_cert", "cert", "ssl_cert", "key", "ssl_cert_key"),
    *("user", "password", "password_file"),
)
"""The settings of the etcd backends."""

TORCH_SETTINGS = (
    *("close_timeout", "heartbeat_timeout", "read_timeout", "store_type", "etcd_prefix"),
    *("keep_alive_interval", "keep_alive_max_attempt", "heartbeat", "cas_backoff_max_seconds"),
)
"""What torchrun's backends are told besides: it is about what elrun does otherwise."""


class SoloRendezvous(RoundHandler):
    """Rounds of one node, which judges for itself.

    Args:
        port: Their port there; 0 takes another one in each round.
    """

    def __init__(self, backend: str, run_id: str, address: str, port: int = 0) -> None:
        self._backend = backend
        self._run_id = run_id
        self._address = address
        self._port = port
        self._profile = NodeProfile(1)
        self._store = MemoryStore()
        self._claim: PortClaim | None = None
        self._wakes: list[Callable[[], None]] = []
        # The lock guards what follows: it changes with the rounds.
        self._lock = threading.Lock()
        self._round = -1
        self._restart_count = 0
        self._verdict: Verdict | None = None
        self._outcome: bytes | None = None
        self._is_closed = False

    def get_backend(self) -> str:
        return self._backend

    def get_run_id(self) -> str:
        return self._run_id

    @property
    def answers_at_once(self) -> bool:
        return True

    def workers_listener(self) -> socket | None:
        self._is_store_served = True
        return self._claim.listen() if self._claim is not None else listen_at(self._port)

    def describe(self, profile: NodeProfile) -> None:
        self._profile = profile

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    def next_rendezvous(self) -> RendezvousInfo:
        with self._lock:
            if self._has_ended():
                raise RendezvousClosedError(f"run {self._run_id!r} has ended")
            if self._verdict is not None and self._verdict.kind is VerdictKind.WORKER_FAILED:
                self._restart_count += 1
            self._round += 1
            self._verdict = None
            self._outcome = None
            place = self._place(RendezvousStoreInfo(self._address, self._next_port()))
        return RendezvousInfo(
            RoundStore(self._store, f"{place.round}/"),
            place.group_rank,
            place.group_world_size,
            place.workers_store,
            place,
        )

    def verdict(self) -> Verdict | None:
        with self._lock:
            return self._verdict

    def conclude(self, verdict: Verdict) -> Verdict:
        with self._lock:
            standing = self._verdict = self._verdict or verdict
        for wake in self._wakes:
            wake()
        return standing

    def arrive(self) -> None:
        self.conclude(Verdict(VerdictKind.DONE, by=0))

    def publish(self, outcome: bytes) -> None:
        with self._lock:
            self._outcome = outcome

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        with self._lock:
            return [self._outcome]

    def is_closed(self) -> bool:
        with self._lock:
            return self._has_ended()

    def set_closed(self) -> None:
        with self._lock:
            self._is_closed = True

    def num_nodes_waiting(self) -> int:
        return 0

    def shutdown(self) -> bool:
        self.set_closed()
        if self._claim is not None:
            self._claim.release()
        return True

    def _has_ended(self) -> bool:
        """Return whether the run has ended; called with the lock held."""
        return self._is_closed or (self._verdict is not None and self._verdict.kind.ends_run)

    def _place(self, workers_store: RendezvousStoreInfo) -> Placement:
        """Return this node's place; called with the lock held."""
        world_size = self._profile.local_world_size
        return Placement(
            round=self._round,
            group_rank=0,
            group_world_size=1,
            first_rank=0,
            world_size=world_size,
            first_role_rank=0,
            role_world_size=world_size,
            restart_count=self._restart_count,
            workers_store=workers_store,
        )

    def _next_port(self) -> int:
        if self._port:
            return self._port
        last, self._claim = self._claim, PortClaim.take()
        if last is not None:  # only now, so that no two rounds in a row have one port
            last.release()
        return self._claim.port


def create_standalone(params: RendezvousParameters) -> RoundHandler:
    """Return the rendezvous of a job on one node.

    Args:
        params: The endpoint plays no part.

    Raises:
        ValueError: More than one node is asked for.
    """
    _check_settings(params)
    if params.max_nodes > 1:
        raise ValueError(
            f"standalone is for one node, not for {params.max_nodes}: "
            "give --rdzv-backend c10d and --rdzv-endpoint"
        )
    return SoloRendezvous(params.backend, params.run_id, params.local_addr or "127.0.0.1")


def create_static(params: RendezvousParameters) -> RoundHandler:
    """Return the rendezvous of nodes that were told their ranks.

    Args:
        params: The endpoint is the master's address and port; the setting ``rank`` is this node's.

    Raises:
        ValueError: The number of nodes is a range, or the rank or the endpoint does not fit.
    """
    nodes = params.max_nodes
    if nodes == 1:
        _check_settings(params)
    if params.min_nodes != nodes:
        raise ValueError(
            f"static rendezvous takes a fixed number of nodes, not {params.min_nodes}:{nodes}"
        )
    rank = params.get_as_int("rank", 0 if nodes == 1 else -1)
    if rank is None or not 0 <= rank < nodes:
        raise ValueError(f"--node-rank {rank}: give a rank from 0 to {nodes - 1} of {nodes} nodes")
    if not params.endpoint and nodes > 1:
        raise ValueError("static rendezvous of several nodes needs --master-addr")
    endpoint, *others = params.endpoints(Endpoint("127.0.0.1", 0))
    if others:
        raise ValueError(f"endpoint {params.endpoint!r}: static rendezvous has one; give HOST:PORT")
    if nodes > 1:
        from .static import create_static_nodes  # one node needs no store

        place = endpoint._replace(port=endpoint.port or DEFAULT_MASTER_PORT)
        return create_static_nodes(params, place, rank)
    return SoloRendezvous(params.backend, params.run_id, endpoint.host, endpoint.port)


def _check_settings(params: RendezvousParameters) -> None:
    """Refuse what several nodes would refuse: one node reads no setting, and a job may grow.

    A site may have set the same for all its jobs, so settings of other backends may stand there.
    """
    if not params.config:
        return
    from ..protocol.timing import timing_of  # few jobs on one node have settings
    from ..stores.signed import secret_of

    timing_of(params)
    params.get_as_bool("is_host")
    params.get_as_rank("rank")
    if isinstance(params.get("secret"), str):
        secret_of(params)
    for name in ("secret_file", *ETCD_SETTINGS, *TORCH_SETTINGS):
        params.get(name)
