"""The public face of a rendezvous: what an agent asks of it, and how it fails.

An agent that was written for torchrun needs ``RendezvousHandler`` only. elrun's own backends are
``RoundHandler``s: their rounds end by a verdict that reaches every node at once, so that no agent
has to poll and none waits for its collective library's time-out.
"""

from __future__ import annotations

import enum
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from .parameters import RendezvousParameters


class _Address(NamedTuple):
    master_addr: str
    master_port: int


class RendezvousStoreInfo(_Address):
    """Where the workers of one attempt find their torch store.

    Args:
        master_addr: Host name or address of the node of rank 0.
        master_port: TCP port there.
    """

    MASTER_ADDR_KEY: ClassVar[str] = "MASTER_ADDR"
    MASTER_PORT_KEY: ClassVar[str] = "MASTER_PORT"
    __slots__ = ()

    @staticmethod
    def build(
        rank: int, store: Any, local_addr: str | None, server_port: int | None = None
    ) -> RendezvousStoreInfo:
        """Let group rank 0 choose the address and port, and tell every other node through a store.

        Args:
            rank: Group rank of this node.
            store: A torch ``Store``, or anything with its ``set`` and blocking ``get``.
            local_addr: Address of this node to publish; by default the one its name resolves to.
            server_port: Port of a store that is shared already; by default a free port.
        """
        from ..network.addresses import default_address  # noqa: PLC0415  rank 0's work only
        from ..network.ports import free_port  # noqa: PLC0415

        if rank == 0:
            address = local_addr or default_address()
            port = server_port or free_port()
            store.set(RendezvousStoreInfo.MASTER_ADDR_KEY, address.encode())
            store.set(RendezvousStoreInfo.MASTER_PORT_KEY, str(port).encode())
        return RendezvousStoreInfo(
            store.get(RendezvousStoreInfo.MASTER_ADDR_KEY).decode(),
            int(store.get(RendezvousStoreInfo.MASTER_PORT_KEY).decode()),
        )


class NodeProfile(NamedTuple):
    """What a node tells about itself when it takes a seat.

    Args:
        local_world_size: Number of workers that the node will run.
        role: Name of their role.
        max_restarts: Restarts that it was told the job may spend.
    """

    local_world_size: int
    role: str = "default"
    max_restarts: int = 0


class Placement(NamedTuple):
    """Where a node stands in a sealed round.

    Args:
        round: Number of the round, from 0.
        group_rank: Rank of the node, from 0.
        group_world_size: Number of nodes in the round.
        first_rank: Global rank of the node's local rank 0.
        world_size: Number of workers in the round, over all roles.
        first_role_rank: Role rank of the node's local rank 0.
        role_world_size: Number of workers of the node's role.
        restart_count: Restarts that the job has spent so far; membership changes spend none.
        workers_store: Where the workers of this round meet; a new port for every round.
    """

    round: int
    group_rank: int
    group_world_size: int
    first_rank: int
    world_size: int
    first_role_rank: int
    role_world_size: int
    restart_count: int
    workers_store: RendezvousStoreInfo


class VerdictKind(enum.Enum):
    """How a round can end."""

    WORKER_FAILED = "worker failed"
    NODE_LOST = "node lost"
    NODE_WAITING = "node waiting"
    DONE = "done"
    ABORTED = "aborted"

    @property
    def ends_run(self) -> bool:
        """Whether no round can follow."""
        return self in (VerdictKind.DONE, VerdictKind.ABORTED)


class Verdict(NamedTuple):
    """Why a round ended: written once, read by every node.

    Args:
        kind: What happened.
        by: Group rank of the node that says so, or -1 for one without a rank (a node waiting).
        reason: A sentence for people.
        details: JSON values that the agents give each other; opaque to the rendezvous.
        lost: Group ranks that won't be back; the next round does not wait for them.
    """

    kind: VerdictKind
    by: int = -1
    reason: str = ""
    details: Mapping[str, Any] = MappingProxyType({})
    lost: tuple[int, ...] = ()


class RendezvousInfo:
    """What a node knows after a rendezvous.

    Args:
        store: A key-value store that the round's agents share, with torch ``Store``'s methods.
        rank: Group rank of this node.
        world_size: Number of nodes in the round.
        bootstrap_store_info: Where the workers' torch store is (to be).
        placement: Where the node's workers stand, when the backend has settled that already.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world_size: int,
        bootstrap_store_info: RendezvousStoreInfo | None,
        placement: Placement | None = None,
    ) -> None:
        self._store = store
        self._rank = rank
        self._world_size = world_size
        self._bootstrap_store_info = bootstrap_store_info
        self._placement = placement

    @property
    def store(self) -> Any:
        """The agents' store of this round."""
        return self._store

    @property
    def rank(self) -> int:
        """Group rank of this node, from 0."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Number of nodes in the round."""
        return self._world_size

    @property
    def bootstrap_store_info(self) -> RendezvousStoreInfo | None:
        """Where the workers meet."""
        return self._bootstrap_store_info

    @property
    def placement(self) -> Placement | None:
        """Where this node's workers stand; None from a backend that leaves it to agents."""
        return self._placement


class RendezvousHandler(ABC):
    """How one node meets the others. Plug-ins for torchrun implement just this."""

    @abstractmethod
    def get_backend(self) -> str:
        """Return the backend's name, as ``--rdzv-backend`` takes it."""

    @property
    def use_agent_store(self) -> bool:
        """Whether an agent serves the store that workers meet in, instead of rank 0 itself."""
        return False

    @abstractmethod
    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed with this node in it.

        Raises:
            RendezvousClosedError: The run has ended.
            RendezvousTimeoutError: Too few nodes came in time.
            RendezvousConnectionError: The store is out of reach.
            RendezvousStateError: The store holds something foreign.
            RendezvousGracefulExitError: The run ended and never needed this node.
        """

    @abstractmethod
    def is_closed(self) -> bool:
        """Return whether the run has ended."""

    @abstractmethod
    def set_closed(self) -> None:
        """End the run: nobody can join it any more."""

    @abstractmethod
    def num_nodes_waiting(self) -> int:
        """Return how many nodes came too late for the current round and could join the next."""

    @abstractmethod
    def get_run_id(self) -> str:
        """Return the run id, ``--rdzv-id``."""

    @abstractmethod
    def shutdown(self) -> bool:
        """Leave the run and release what the handler holds; return whether that went well."""


class RoundHandler(RendezvousHandler):
    """A rendezvous whose rounds end by a verdict that every node learns at once.

    All methods but ``next_rendezvous``, ``collect`` and ``describe_wait``, which takes two, take
    one store operation at most.
    """

    _is_store_served = False  # until an agent has asked for a listener

    @property
    def use_agent_store(self) -> bool:
        return self._is_store_served

    @property
    def answers_at_once(self) -> bool:
        """Whether no call has to wait for another node or a store."""
        return False

    @property
    def is_needed_by_others(self) -> bool:
        """Whether the round can't go on once this node has gone, since it hosts the store."""
        return False

    def workers_listener(self) -> socket.socket | None:
        """Listen where the current round's workers meet, if that is on this node.

        An agent asks each time that ``next_rendezvous`` has returned, if it means to serve the
        workers' store; from then on the handler's ``use_agent_store`` is True on every node of its
        own backends. Where no agent asks, rank 0 serves the store, and the port is free for it.

        Returns:
            The listening socket, which the caller owns; None: another node's agent serves the
            store, or nobody does, since the backend leaves that to the workers.

        Raises:
            RendezvousError: The port is in use.
        """
        return None

    @property
    def has_to_be_asked(self) -> bool:
        """Whether waiting nodes are only found by ``look_for_waiting_nodes``."""
        return False

    def look_for_waiting_nodes(self) -> None:
        """Ask once whether nodes are waiting, which ends the round."""

    def await_signs_of_life(self) -> None:
        """Wait, if the job could bear the loss of a node, until all have shown that they live.

        Whoever is about to end the job for a failure asks for that first: the failure may be what
        the loss of a node looks like from its peers, and then the loss becomes the verdict.

        Raises:
            RendezvousConnectionError: The store was lost.
        """

    def describe_wait(self) -> str:
        """Say what is waited for, while another thread is in ``next_rendezvous``, and who is there.

        Returns:
            A sentence without its end; "" where no other node is waited for.

        Raises:
            RendezvousError: The store was lost, or holds something foreign.
        """
        return ""

    @abstractmethod
    def describe(self, profile: NodeProfile) -> None:
        """Say what this node brings to the rounds it will join; before ``next_rendezvous``."""

    @abstractmethod
    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever ``verdict()`` may have changed."""

    @abstractmethod
    def verdict(self) -> Verdict | None:
        """Return the current round's verdict if there is one, without asking the store.

        Raises:
            RendezvousConnectionError: The store was lost while the round ran.
        """

    @abstractmethod
    def conclude(self, verdict: Verdict) -> Verdict:
        """Propose how the current round ended; return the verdict that stands, which is the first.

        Raises:
            RendezvousConnectionError: The store was lost.
        """

    @abstractmethod
    def arrive(self) -> None:
        """Say that this node's workers all succeeded; the last node to say so concludes DONE.

        Raises:
            RendezvousConnectionError: The store was lost.
        """

    @abstractmethod
    def publish(self, outcome: bytes) -> None:
        """Leave this node's outcome of the current round for ``collect`` (1 MiB at most)."""

    @abstractmethod
    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        """Return the current round's outcomes by group rank; None for what is not there in time."""


RendezvousHandlerCreator = Callable[[RendezvousParameters], RendezvousHandler]
