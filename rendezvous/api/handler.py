"""The interface between an agent and a rendezvous.

An agent that was written for torchrun needs ``RendezvousHandler`` only. elrun's own backends are
``RoundHandler``s: each round ends by a verdict that reaches every node at once. So no agent has to
poll, and no agent waits for the time-out of its collective library.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MappingProxyType

from ..named_tuple import NamedTuple
from .parameters import RendezvousParameters, RendezvousStoreInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping, Sequence
    from typing import Any


class NodeProfile(NamedTuple):
    """What an agent brings to a round.

    Args:
        local_world_size: Number of workers that the node will run.
        role: Name of the workers' role.
        max_restarts: Restarts that the job may spend.
        traits: What should be the same on all nodes, by its name: short texts, such as the version
            of torch. Where it differs, each ``Placement`` has a ``notice``.
    """

    local_world_size: int
    role: str = "default"
    max_restarts: int = 0
    traits: Mapping[str, str] = MappingProxyType({})


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
        workers_store: Address of the workers' store; a new port for every round.
        notice: How the nodes of the round differ in what should be the same, as a sentence; the
            same on all nodes. Empty if nothing differs.
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
    notice: str = ""


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
        by: Group rank of the node that wrote the verdict; -1 for a node without a rank.
        reason: A sentence for people.
        details: JSON values from agent to agent, which the rendezvous does not read.
        lost: Group ranks that are lost; the next round does not wait for them.
    """

    kind: VerdictKind
    by: int = -1
    reason: str = ""
    details: Mapping[str, Any] = MappingProxyType({})
    lost: tuple[int, ...] = ()


class RendezvousInfo:
    """What a node knows after a rendezvous; each property is a parameter."""

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
        """A key-value store that the round's agents share, with torch ``Store``'s methods."""
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
        """Address of the workers' torch store, which may not exist yet."""
        return self._bootstrap_store_info

    @property
    def placement(self) -> Placement | None:
        """The node's place; None where the backend leaves the workers' ranks to the agents."""
        return self._placement


class RendezvousHandler(ABC):
    """A rendezvous, as one node sees it. Plug-ins for torchrun implement this class."""

    @abstractmethod
    def get_backend(self) -> str:
        """Return the backend's name, as ``--rdzv-backend`` takes it."""

    @property
    def use_agent_store(self) -> bool:
        """Whether an agent serves the workers' store; else rank 0 serves it."""
        return False

    @abstractmethod
    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed with this node in it.

        Raises:
            RendezvousClosedError: The run has ended.
            RendezvousTimeoutError: Too few nodes came in time.
            RendezvousConnectionError: The store is out of reach.
            RendezvousStateError: A record in the store is invalid, or the run refuses this node.
            RendezvousGracefulExitError: The run has succeeded without this node.
        """

    @abstractmethod
    def is_closed(self) -> bool:
        """Return whether the run has ended."""

    @abstractmethod
    def set_closed(self) -> None:
        """End the run: no node can join it any more."""

    @abstractmethod
    def num_nodes_waiting(self) -> int:
        """Return the number of nodes that wait for the next round."""

    @abstractmethod
    def get_run_id(self) -> str:
        """Return the run id, ``--rdzv-id``."""

    @abstractmethod
    def shutdown(self) -> bool:
        """Leave the run and release all resources; return whether that succeeded."""


class RoundHandler(RendezvousHandler):
    """A rendezvous whose rounds end by a verdict that reaches every node at once.

    An agent calls the methods from its loop, except those that may wait for other nodes:
    ``next_rendezvous``, ``await_signs_of_life``, ``await_cause`` and ``collect``. The others make a
    few short calls to the store, or none. A method that has to call the store raises
    ``RendezvousConnectionError`` where the store was lost.
    """

    _is_store_served = False  # until an agent has asked for a listener

    @property
    def use_agent_store(self) -> bool:
        return self._is_store_served

    @property
    def meeting_place(self) -> str:
        """What tells two runs of one name apart: backend and endpoint; "" for a run of one node."""
        return ""

    @property
    def answers_at_once(self) -> bool:
        """Whether no call ever waits for another node or for a store."""
        return False

    @property
    def is_needed_by_others(self) -> bool:
        """Whether this node hosts the store, so that the others can't go on without it."""
        return False

    def workers_listener(self) -> socket | None:
        """Listen at the address of the workers' store, if that is on this node.

        An agent that serves the workers' store calls this each time that ``next_rendezvous`` has
        returned, on every node; from then on ``use_agent_store`` is True. If no agent calls this,
        rank 0 serves the store, and the port is free for it.

        Returns:
            The listening socket, which the caller owns. None: the store is on another node, or the
            backend leaves the store to the workers.

        Raises:
            RendezvousError: The port is in use.
        """
        return None

    def abort(self, verdict: Verdict) -> None:
        """End the run, also for nodes that wait for a round; each learns of the verdict.

        Args:
            verdict: Of a kind that ends the run.
        """
        self.set_closed()

    @property
    def has_to_be_asked(self) -> bool:
        """Whether only ``look_for_waiting_nodes`` finds waiting nodes."""
        return False

    def look_for_waiting_nodes(self) -> None:
        """Check once whether nodes are waiting; if so, end the round."""

    def await_signs_of_life(self) -> None:
        """Wait until each other node has given a sign of life, if the job can do without a node.

        An agent calls this before it reports a failure that would end the job. The failure may be a
        consequence: the workers of all other nodes fail when a node is lost. In that case the loss
        becomes the verdict.
        """

    def decline(self, reason: str) -> bool:
        """Tell the other nodes, while it is in no round, that this one can't take part.

        That takes a bounded time. A node that hosts the store stays for as long, so that the others
        find it; the caller shuts the handler down afterwards.

        Args:
            reason: Why, as a sentence without a full stop.

        Returns:
            Whether the record of it stands where the others read it.
        """
        return False

    def describe_wait(self) -> str:
        """Return which nodes have come, while another thread waits in ``next_rendezvous``.

        It is a sentence without a full stop; "" if the thread waits for no other node.

        Raises:
            RendezvousError: The store was lost, or a record in it is invalid.
        """
        return ""

    def wait_limit_s(self) -> float | None:
        """Return how long that wait may take (``join_timeout``); None: no limit is known."""
        return None

    def beat_age_s(self) -> float | None:
        """Return for how long this node has written no beat; None: it writes none."""
        return None

    @abstractmethod
    def describe(self, profile: NodeProfile) -> None:
        """Set what this node brings to its next rounds; before ``next_rendezvous``."""

    @abstractmethod
    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever ``verdict()`` may have changed."""

    @abstractmethod
    def verdict(self) -> Verdict | None:
        """Return the current round's verdict if there is one, without a call to the store.

        Raises:
            RendezvousConnectionError: The store was lost while the round ran.
        """

    @abstractmethod
    def conclude(self, verdict: Verdict) -> Verdict:
        """Propose how the current round ended; return the verdict that stands: the first one.

        Raises:
            ValueError: The verdict's details are no JSON, or have more than 1 MiB.
        """

    @abstractmethod
    def arrive(self) -> None:
        """Record that this node's workers all succeeded; the last node concludes DONE."""

    @abstractmethod
    def publish(self, outcome: bytes) -> None:
        """Write this node's outcome of the current round for ``collect``.

        Raises:
            ValueError: The outcome has more than 1 MiB.
        """

    def settle_cause(self, cause: bytes) -> bytes:
        """Write why the current round failed, unless a node has; return what stands.

        Args:
            cause: In the agents' own format; at most 1 MiB.
        """
        return cause

    def await_cause(self, timeout_s: float) -> bytes | None:
        """Return what ``settle_cause`` has written; None: nothing within the time."""
        return None

    def listen(self, topics: Sequence[str], hear: Callable[[str, int, bytes], None]) -> None:
        """Call ``hear`` with each notice that an agent announces, in the rounds to come.

        Any thread calls it, with topic, number and notice; it neither blocks nor raises.
        """

    def announce(self, topic: str, number: int, notice: bytes) -> bytes:
        """Write a notice for all agents of the round, unless it stands; return what stands.

        Notices of a topic are numbered from 0, and heard in this order.

        Raises:
            RendezvousError: The node is in no round, or the store was lost.
        """
        return notice

    @abstractmethod
    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        """Return the current round's outcomes by group rank; None for each that came too late.

        Where the rendezvous sees at once that a node is gone, that node's outcome is empty.
        """


RendezvousHandlerCreator = Callable[[RendezvousParameters], RendezvousHandler]
