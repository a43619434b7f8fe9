"""The round protocol of one node, over any store: the handler that an agent drives."""

from __future__ import annotations

import _socket
import socket
import threading
import time
from collections.abc import Callable, Sequence

from ..api.handler import NodeProfile, RendezvousInfo, RoundHandler, Verdict
from ..api.parameters import RendezvousParameters
from ..errors import RendezvousError
from ..logs import Log
from ..protocol.keys import RunKeys
from ..protocol.record_reader import MAX_COUNT
from ..protocol.records import Limits, Node, Origin
from ..protocol.timing import Timing, changed_settings, timing_of
from ..stores.signed import secret_of
from ..stores.store import Connection, Limit
from ..stores.torch_view import RoundStore
from .driver import Driver
from .notices import Hear
from .procedures import RoundMachine
from .resources import Resources
from .round_state import Phase

log = Log(__name__)

MAX_OUTCOME_BYTES = 1 << 20
# The answer to "leave" or "decline" may take this much longer than the wait that it makes.
_MARGIN_S = 0.5


class RoundRendezvous(RoundHandler):
    """Rounds that the nodes agree on through a store.

    Args:
        params: Backend, run id, numbers of nodes, and the settings of ``timing_of`` and
            ``secret_of``; ``rank`` is the group rank that this node would like to have.
        connect: Reaches the store, at the first rendezvous; gives up when the event is set.
        timing: How long to wait for what, instead of what the settings say.

    Raises:
        ValueError: A setting has a wrong value.
    """

    _rank_word = "group rank"

    def __init__(
        self,
        params: RendezvousParameters,
        connect: Callable[[threading.Event], Connection],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = params.backend
        self._meeting_endpoint = params.endpoint
        self._run = RunKeys(params.run_id)
        self._timing = timing = timing or timing_of(params)
        times_s = (timing.heartbeat_s, timing.patience_s)
        beats_ms = (min(round(each_s * 1000), MAX_COUNT) for each_s in times_s)
        self._limits = Limits(params.min_nodes, params.max_nodes, 0, *beats_ms)
        self._wish = params.get_as_rank("rank")
        self._profile = NodeProfile(1)
        self._subscribers: tuple[Callable[[], None], ...] = ()
        self._clock = clock
        self._machine = RoundMachine(
            self._run,
            self._limits,
            self._timing,
            socket.gethostname(),
            self._record,
            self._rank_word,
        )
        self._resources = Resources(self._run, connect, secret_of(params), self._prepare)
        self._driver = Driver(self._machine, self._resources, self._wake, clock)

    def get_backend(self) -> str:
        return self._backend

    def get_run_id(self) -> str:
        return self._run.run_id

    @property
    def meeting_place(self) -> str:
        return f"{self._backend} {self._meeting_endpoint}"

    @property
    def is_needed_by_others(self) -> bool:
        connection = self._machine.session.connection
        return connection is not None and connection.is_host and connection.at is None

    def workers_listener(self) -> _socket.socket | None:
        self._is_store_served = True
        place, port = self._machine.state.place, self._machine.next.port
        if place is None or place.group_rank > 0 or port is None:
            return None
        claim = self._resources.claim(port)
        return None if claim is None else claim.listen()

    def describe(self, profile: NodeProfile) -> None:
        self._profile = profile

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._subscribers = (*self._subscribers, wake)

    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed with this node in it.

        The thread that calls this may be abandoned: ``shutdown()`` ends its wait.
        """
        number, place = self._driver.ask(RoundMachine.next_round)
        shared = self._run.round(place.round).shared
        return RendezvousInfo(
            RoundStore(self._resources.store(number), shared),
            place.group_rank,
            place.group_world_size,
            place.workers_store,
            place,
        )

    def decline(self, reason: str) -> bool:
        timeout_s = self._timing.refusal_s + _MARGIN_S
        self._resources.limit_connecting(Limit(self._timing.refusal_s, "refusal_timeout"))
        try:
            return self._driver.ask(RoundMachine.decline, reason, timeout_s=timeout_s)
        except (RendezvousError, OSError) as error:  # for lack of time, a thread, descriptors
            log.info("the other nodes could not be told that this one can't take part: %s", error)
            return False

    def describe_wait(self) -> str:
        return self._driver.ask(RoundMachine.describe_wait)

    def wait_limit_s(self) -> float | None:
        """Return how long this node waits for others in all; None: it is a spare."""
        is_spare = self._machine.state.phase is Phase.SPARE
        return None if is_spare else self._timing.join_timeout_s

    def beat_age_s(self) -> float | None:
        """Return for how long the store has taken no beat of this node; any thread may ask."""
        written_at = self._machine.heartbeat.written_at
        return None if written_at is None else max(0.0, self._clock() - written_at)

    def verdict(self) -> Verdict | None:
        return self._machine.state.verdict_or_error()

    def conclude(self, verdict: Verdict) -> Verdict:
        return self._driver.ask(RoundMachine.conclude, verdict)

    def await_signs_of_life(self) -> None:
        self._driver.ask(RoundMachine.await_signs_of_life)

    def arrive(self) -> None:
        self._driver.ask(RoundMachine.arrive)

    def publish(self, outcome: bytes) -> None:
        if len(outcome) > MAX_OUTCOME_BYTES:
            raise ValueError(f"an outcome of {len(outcome)} bytes: {MAX_OUTCOME_BYTES} are allowed")
        self._driver.ask(RoundMachine.publish, outcome)

    def settle_cause(self, cause: bytes) -> bytes:
        return self._driver.ask(RoundMachine.settle_cause, cause)

    def await_cause(self, timeout_s: float) -> bytes | None:
        return self._driver.ask(RoundMachine.await_cause, timeout_s)

    def listen(self, topics: Sequence[str], hear: Hear) -> None:
        self._machine.listen(topics, hear)

    def announce(self, topic: str, number: int, notice: bytes) -> bytes:
        return self._driver.ask(RoundMachine.announce, topic, number, notice)

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        return self._driver.ask(RoundMachine.collect, timeout_s)

    def is_closed(self) -> bool:
        return self._driver.ask(RoundMachine.is_closed)

    def set_closed(self) -> None:
        self._driver.ask(RoundMachine.set_closed)

    def abort(self, verdict: Verdict) -> None:
        self._driver.ask(RoundMachine.abort, verdict)

    def num_nodes_waiting(self) -> int:
        return self._driver.ask(RoundMachine.num_nodes_waiting)

    def shutdown(self) -> bool:
        """Leave the run, without ending it for the others, and release the store.

        A node that hosts the store of a run that has ended stays until all others have read the
        end. All this takes 5 s at most, even if the store does not answer.
        """
        self._subscribers = ()
        self._resources.stop_connecting()
        try:
            timeout_s = self._timing.leave_s + _MARGIN_S
            is_announced = self._driver.ask(RoundMachine.leave, timeout_s=timeout_s)
        except (RendezvousError, TimeoutError):
            is_announced = False
        self._driver.close()
        return is_announced

    def _prepare(self) -> None:
        """Do what a backend has to do each time before the node takes a seat."""

    def _record(self, address: str, port: int, origin: Origin | None, restarts: int) -> Node:
        """Return what this node writes about itself when it takes a seat."""
        return Node(
            host=socket.gethostname(),
            address=address,
            port=port,
            local_world_size=self._profile.local_world_size,
            role=self._profile.role,
            limits=self._limits._replace(max_restarts=self._profile.max_restarts),
            traits={**self._profile.traits, **changed_settings(self._timing)},
            origin=origin,
            wish=self._wish,
            restarts=restarts,
        )

    def _wake(self) -> None:
        for wake in self._subscribers:
            wake()
