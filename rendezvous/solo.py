"""Rendezvous of agents that need no store: one node alone, or nodes that know their ranks.

``standalone`` is one node: nobody has to be met, and every round's workers meet at a new port.
``static`` is nodes that were told their rank and where rank 0 is: their workers meet there, and
their agents don't meet at all. A failure reaches another node's agent only through its workers,
whose connections break; then it restarts them too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .addresses import PortClaim, parse_endpoint
from .handler import (
    NodeProfile,
    Placement,
    RendezvousClosedError,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RoundHandler,
    Verdict,
    VerdictKind,
)
from .memory import MemoryStore

LOOPBACK = "127.0.0.1"


class SoloRounds(RoundHandler):
    """Rounds that this node forms without asking anybody.

    Args:
        backend: ``standalone`` or ``static``.
        run_id: Name of the job.
        group_rank: This node's rank.
        group_world_size: Number of nodes; each is taken to bring as many workers as this one.
        meeting: Where the workers meet; None chooses a new port at ``address`` for every round.
        address: This node's address, as its own workers see it.
    """

    def __init__(
        self,
        backend: str,
        run_id: str,
        *,
        group_rank: int = 0,
        group_world_size: int = 1,
        meeting: RendezvousStoreInfo | None = None,
        address: str = LOOPBACK,
    ) -> None:
        self._backend = backend
        self._run_id = run_id
        self._group_rank = group_rank
        self._group_world_size = group_world_size
        self._meeting = meeting
        self._address = address
        self._profile = NodeProfile(1)
        self._round = -1
        self._restart_count = 0
        self._verdict: Verdict | None = None
        self._claim: PortClaim | None = None
        self._outcome: bytes | None = None
        self._is_closed = False

    def get_backend(self) -> str:
        return self._backend

    def get_run_id(self) -> str:
        return self._run_id

    def describe(self, profile: NodeProfile) -> None:
        self._profile = profile

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Do nothing: only this node's own agent ends a round."""

    def next_rendezvous(self) -> RendezvousInfo:
        if self._is_closed:
            raise RendezvousClosedError(f"run {self._run_id!r} has ended")
        if self._verdict is not None and self._verdict.kind is VerdictKind.WORKER_FAILED:
            self._restart_count += 1
        self._verdict = self._outcome = None
        self._round += 1
        each = self._profile.local_world_size
        meeting = self._meeting or self._new_meeting()
        place = Placement(
            round=self._round,
            group_rank=self._group_rank,
            group_world_size=self._group_world_size,
            first_rank=self._group_rank * each,
            world_size=self._group_world_size * each,
            first_role_rank=self._group_rank * each,
            role_world_size=self._group_world_size * each,
            restart_count=self._restart_count,
            workers_store=meeting,
        )
        return RendezvousInfo(_store(), self._group_rank, self._group_world_size, meeting, place)

    def verdict(self) -> Verdict | None:
        return self._verdict

    def conclude(self, verdict: Verdict) -> Verdict:
        if self._verdict is None:
            self._verdict = verdict
        return self._verdict

    def arrive(self) -> None:
        self.conclude(Verdict(VerdictKind.DONE, by=self._group_rank))

    def publish(self, outcome: bytes) -> None:
        self._outcome = outcome

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:  # noqa: ARG002  nobody is met
        outcomes: list[bytes | None] = [None] * self._group_world_size
        outcomes[self._group_rank] = self._outcome
        return outcomes

    def is_closed(self) -> bool:
        return self._is_closed

    def set_closed(self) -> None:
        self._is_closed = True

    def num_nodes_waiting(self) -> int:
        return 0

    def shutdown(self) -> bool:
        self._release_port()
        self._is_closed = True
        return True

    def _new_meeting(self) -> RendezvousStoreInfo:
        # The new port is claimed before the last one is let go, so that they differ.
        claim = PortClaim()
        self._release_port()
        self._claim = claim
        return RendezvousStoreInfo(self._address, claim.port)

    def _release_port(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None


def create_standalone(parameters: RendezvousParameters) -> SoloRounds:
    """Return the handler of a job on one node.

    Raises:
        ValueError: The job may take more than one node.
    """
    if parameters.max_nodes != 1:
        raise ValueError(
            f"the standalone rendezvous is one node alone, not {parameters.max_nodes}: "
            "choose another --rdzv-backend"
        )
    address = parameters.local_addr or LOOPBACK
    return SoloRounds(parameters.backend, parameters.run_id, address=address)


def create_static(parameters: RendezvousParameters) -> SoloRounds:
    """Return the handler of a node that was told its rank and where rank 0 is.

    Raises:
        ValueError: The number of nodes is a range, the rank is not one of theirs, or there is
            no address where several nodes could meet.
    """
    nodes = parameters.max_nodes
    if parameters.min_nodes != nodes:
        raise ValueError(
            f"the static rendezvous takes a fixed number of nodes, not "
            f"{parameters.min_nodes}:{nodes}"
        )
    rank = parameters.get_as_int("rank", 0) or 0
    if not 0 <= rank < nodes:
        raise ValueError(f"--node-rank {rank}: with {nodes} nodes, give 0 to {nodes - 1}")
    meeting = None
    if parameters.endpoint:
        meeting = RendezvousStoreInfo(*parse_endpoint(parameters.endpoint, default_port=29500))
    elif nodes > 1:
        raise ValueError("several static nodes need --master-addr, where the first one is")
    return SoloRounds(
        parameters.backend,
        parameters.run_id,
        group_rank=rank,
        group_world_size=nodes,
        meeting=meeting,
        address=parameters.local_addr or LOOPBACK,
    )


def _store() -> Any:
    return MemoryStore()
