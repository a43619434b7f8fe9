"""Which nodes a static job lets in: decided when they connect, from what they say of themselves.

Every node was told its rank and how many there are. A rank has one node at a time. A node that has
died is gone from its rank as soon as its connection ends, and if no end came, when it has been
silent for as long as nodes may: then another one that comes with the same rank takes its place.
"""

from __future__ import annotations

from ..logs import Log
from ..stores.server.guests import Admitted, Guests
from ..stores.server.hello import Hello, Refusal

log = Log(__name__)

TAKEN = "rank"
"""The kind of refusal that may be none a moment later: the node that has the rank may be dead."""

_MOST_TOLD = 64


class _Seat:
    __slots__ = ("client", "heard_at", "host", "rank")

    def __init__(self, client: int, rank: int, host: str, heard_at: float) -> None:
        self.client = client
        self.rank = rank
        self.host = host
        self.heard_at = heard_at


class StaticNodes(Guests):
    """The nodes of a job that were told their ranks.

    Args:
        me: The node that hosts the store, of rank 0.
        silence_s: For how long a node may say nothing.
    """

    def __init__(self, me: Hello, silence_s: float) -> None:
        self._me = me
        self._nodes = me.nodes or 1
        self._silence_s = silence_s
        self._by_rank: dict[int, _Seat] = {}
        self._by_client: dict[int, _Seat] = {}
        # When each node that may have a rank in vain was refused first; None once that is told.
        self._refused_at: dict[tuple[str, int], float | None] = {}

    def admit(self, hello: Hello, client: int, mark: str, now: float) -> Admitted | Refusal:
        refusal = self._refusal(hello, mark, now)
        if refusal is not None:
            self._tell(hello, refusal, now)
            return refusal
        if hello.server:  # this very node, which only asks whether it reaches itself
            return Admitted()
        rank = hello.node_rank or 0
        before = self._by_rank.get(rank)
        seat = _Seat(client, rank, hello.host, now)
        self._by_rank[rank] = self._by_client[client] = seat
        return Admitted(None if before is None else before.client)

    def hear(self, client: int, now: float) -> None:
        seat = self._by_client.get(client)
        if seat is not None:
            seat.heard_at = now

    def leave(self, client: int) -> None:
        seat = self._by_client.pop(client, None)
        if seat is not None and self._by_rank[seat.rank] is seat:
            del self._by_rank[seat.rank]

    def are_missing(self, now: float) -> bool:
        if len(self._by_rank) < self._nodes:
            return True
        return any(self._is_silent(seat, now) for seat in self._by_rank.values())

    def changes_in_s(self, now: float) -> float | None:
        if self.are_missing(now):
            return None
        return min(seat.heard_at + self._silence_s - now for seat in self._by_rank.values())

    def _is_silent(self, seat: _Seat, now: float) -> bool:
        return now - seat.heard_at >= self._silence_s

    def _refusal(self, hello: Hello, mark: str, now: float) -> Refusal | None:
        me = self._me
        mine, other = f"node rank 0 ({me.host})", f"node rank {hello.node_rank} ({hello.host})"
        if hello.run_id != me.run_id:
            return Refusal(
                "run",
                f"{mine} belongs to run {me.run_id!r}, and {other} to run {hello.run_id!r}: give "
                "the same --rdzv-id on every node, or another --master-port to another job",
            )
        if hello.node_rank is None:
            return Refusal(
                "rendezvous",
                f"{mine} meets the nodes of run {me.run_id!r} with --rdzv-backend static, and "
                f"{hello.host} with c10d: give the same options on every node",
            )
        if hello.nodes != self._nodes:
            return Refusal(
                "nodes",
                f"{mine} was told --nnodes {self._nodes}, and {other} --nnodes {hello.nodes}: give "
                "the same --nnodes on every node",
            )
        if hello.node_rank >= self._nodes:
            return Refusal("nodes", f"{other} is none of {self._nodes} nodes")
        seat = self._by_rank.get(hello.node_rank)
        if hello.server:
            is_free = hello.server == mark
        elif hello.node_rank == 0:  # rank 0 is the node that hosts this, and comes first
            is_free = seat is None
        else:
            is_free = seat is None or self._is_silent(seat, now)
        return None if is_free else _taken(hello, me.host if seat is None else seat.host)

    def _tell(self, hello: Hello, refusal: Refusal, now: float) -> None:
        """Log a refusal, once; that of a rank which is taken only when it has lasted."""
        key = hello.host, hello.node_rank or 0
        if key not in self._refused_at and len(self._refused_at) >= _MOST_TOLD:
            return
        since = self._refused_at.setdefault(key, now)
        if since is None:
            return
        if refusal.kind == TAKEN and not hello.server and now - since < self._silence_s:
            return
        self._refused_at[key] = None
        log.warning("a node was refused: %s", refusal.reason)


def _taken(hello: Hello, host: str) -> Refusal:
    rank = hello.node_rank
    where = f"on {hello.host} and on {host}" if host != hello.host else f"both on {host}"
    return Refusal(
        TAKEN,
        f"two nodes have --node-rank {rank}, {where}: give each node its own --node-rank, or "
        "another --master-port to another job",
    )
