"""The connections of a store server: clients are let in, heard, answered and let go."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from itertools import takewhile

from ...light_typing import Any
from ...logs import Log
from .answers import Answers, Frames
from .channel import Channel, TlsError
from .entrance import Entrance, Nonce
from .foreigners import Foreigners
from .frames import MAX_FRAME_BYTES, RequestError, WireError
from .guests import Admitted, ClientLimits, Guests
from .hello import (
    CROWDED,
    MAX_HELLO_BYTES,
    UNKNOWN_SESSION,
    Hello,
    Refusal,
    write_nonce,
    write_refusal,
    write_welcome,
)
from .peer import Peer
from .sessions import Session, Sessions
from .table import TableError
from .wire import Bye, read_request, write_error

log = Log(__name__)

_TURN_S = 0.02
"""For how long the requests of one client are answered before others have their turn."""


class Connections:
    """All connections of a server; belongs to the server's thread.

    Args:
        on_change: Called when a client was let in, before its welcome is sent.
        cpu_clock: Returns the seconds of CPU that the server's thread has taken.
    """

    def __init__(
        self,
        guests: Guests,
        entrance: Entrance,
        mark: str,
        name: str,
        limits: ClientLimits,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._guests = guests
        self._entrance = entrance
        self._mark, self._name = mark, name
        self._on_change = on_change
        self._limits = limits
        self._selector = selector
        self._clock, self._cpu_clock = clock, cpu_clock
        self._answers = Answers(limits.waits)
        self._sessions = Sessions(limits.session_s)
        self._peers: dict[int, Peer] = {}
        self._strangers: dict[int, Peer] = {}
        self.unread: dict[int, Peer] = {}
        """Those whose requests have come and are not read yet: others have their turn first."""
        self._pressed: dict[int, Peer] = {}  # those for whom bytes wait
        self._foreigners = Foreigners(name)
        self._count = self._held = 0
        self._heard: Peer | None = None  # its answers wait until all its requests are answered

    def greet(self, connection: socket.socket, name: str) -> None:
        """Take a new connection in; its client has some seconds for its hello.

        Args:
            name: Where it comes from, for people; empty: from this process.
        """
        if len(self._strangers) >= self._limits.strangers:
            self._crowd_out(next(iter(self._strangers.values())))
        self._count += 1
        channel = self._entrance.channel() if name else Channel()
        now = self._clock()
        peer = Peer(connection, channel, self._count, name, now, now + self._limits.hello_s)
        try:
            self._selector.register(connection, selectors.EVENT_READ, peer)
        except OSError:  # the system watches no more: this one client does without
            connection.close()
            return
        self._peers[peer.number] = self._strangers[peer.number] = peer

    def room(self, now: float) -> int:
        """Return how many connections ``greet`` may take now: each client has its chance first."""
        least = now - self._limits.chance_s
        had_theirs = takewhile(lambda each: each.came_at <= least, self._strangers.values())
        return self._limits.strangers - len(self._strangers) + sum(1 for _ in had_theirs)

    def attend(self, peer: Peer, events: int) -> None:
        """Send and read what can be sent and read."""
        is_client = peer.session is not None  # of strangers, see ``server.py``
        clock = self._cpu_clock if peer.is_measured else self._clock
        began_at = clock()
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(peer)
                self._weigh(peer)
            if events & selectors.EVENT_READ and peer.number in self._peers:
                self._read(peer)
        except OSError:
            self._let_go(peer)
        except WireError as error:
            self._foreigners.report(peer, error)
            self._dismiss(peer, error)
        if is_client:
            peer.note_turn(clock() - began_at)

    def changes_in_s(self, now: float) -> float | None:
        """Return the seconds until ``end_overdue`` has something to do."""
        waiting = [*self._strangers.values(), *self._pressed.values()]
        dues = [peer.deadline - now for peer in waiting if peer.deadline is not None]
        will_s = self._sessions.changes_in_s(now)
        dues += [] if will_s is None else [will_s]
        return min(dues, default=None)

    def end_overdue(self, now: float) -> None:
        """Let go of clients that are too slow, and carry out the wills of those that are gone."""
        for peer in [*self._strangers.values(), *self._pressed.values()]:
            if peer.deadline is not None and now >= peer.deadline:
                self._cut_off(peer)
        for will in self._sessions.take_due_wills(now):
            with contextlib.suppress(TableError):  # the store is full: the heartbeats tell
                self._answers.carry_out(will)

    def work(self, until: float) -> bool:
        """Answer waits that have ended, and forget others; return whether more is to be done."""
        for sending in self._answers.work():
            if sending is not None:
                self._send_to(*sending)
            if self._clock() >= until:
                return True
        return False

    def close(self) -> None:
        self.work(float("inf"))
        for peer in list(self._peers.values()):
            self._let_go(peer)

    def _read(self, peer: Peer) -> None:
        if peer.has_unread:
            data = b""
        else:
            try:
                data = peer.receive()
            except BlockingIOError:
                return
            if not data:
                self._let_go(peer)
                return
        if peer.is_leaving:
            return
        if peer.session is None:
            peer.first_bytes = (peer.first_bytes + data)[:MAX_HELLO_BYTES]
        else:
            self._guests.hear(peer.number, self._clock())
        self._heard, until = peer, self._clock() + _TURN_S
        peer.has_unread = False
        try:
            while not self._has_answered_all(peer, data, until):
                data = b""  # what came after the refused request is here already
        finally:
            self._heard = None
            if peer.has_unread and peer.number in self._peers:
                self.unread[peer.number] = peer
            else:
                self.unread.pop(peer.number, None)
            if peer.number in self._peers and peer.number not in self._pressed:
                self._flush(peer)
        self._weigh(peer)

    def _has_answered_all(self, peer: Peer, data: bytes, until: float) -> bool:
        """Answer what has come; return False after a refused request, if the turn goes on."""
        try:
            for message in peer.channel.receive(data):
                if peer.number not in self._peers or peer.is_leaving:
                    return True
                if peer.session is None:
                    self._admit(peer, message)
                    continue
                self._answer(peer.session, message)
                if self._ends_turn(peer, until):
                    return True
        except RequestError as error:
            if peer.session is None:
                raise
            self._send(peer, [write_error(error.number, str(error))])
            return self._ends_turn(peer, until)
        return True

    def _ends_turn(self, peer: Peer, until: float) -> bool:
        """Return whether others have their turn now; what this client has asked is read later."""
        is_over = self._clock() >= until
        peer.has_unread = is_over and peer.channel.buffered > 0
        return is_over

    def _answer(self, session: Session, message: Mapping[str, Any]) -> None:
        number, request = read_request(message)
        answer = self._answers.answer(session, number, request)
        if answer is not None:
            self._send_to(session, answer)
        self._sessions.bound(session)
        if isinstance(request, Bye):
            self._sessions.end(session)

    def _admit(self, peer: Peer, message: Mapping[str, Any]) -> None:
        first = self._entrance.take(peer.channel, message, is_trusted=not peer.name)
        if isinstance(first, Nonce):
            self._send(peer, [write_nonce(first.nonce)])
            peer.channel.seal_with(first.seal)
            return
        answer = first if isinstance(first, Refusal) else self._session_for(first, peer)
        if isinstance(answer, Refusal):
            self._foreigners.report_refusal(peer, answer)
            self._refuse(peer, answer)
            return
        session, admitted = answer
        self._answers.leave(session)
        before = self._peers.get(admitted.instead_of or 0)
        if before is not None:
            if before.session is not None:
                self._sessions.end(before.session)
            self._let_go(before)
        old = self._peers.get(session.client or 0)
        self._sessions.connect(session, peer.number)
        if old is not None:  # its client knows already that it is broken
            self._let_go(old)
        del self._strangers[peer.number]
        peer.session, peer.deadline, peer.first_bytes = session, None, b""
        peer.channel.set_limit(MAX_FRAME_BYTES)
        # First: the agent that is let in last may start workers, which are not to meet this server.
        self._on_change()
        self._send(peer, [write_welcome(self._mark)])

    def _session_for(self, hello: Hello, peer: Peer) -> Refusal | tuple[Session, Admitted]:
        """Return a client's session, a new one or the one that it goes on with, or a refusal."""
        name, most = self._name, self._limits.clients
        if len(self._peers) - len(self._strangers) >= most:
            return Refusal("full", f"{name} has {most} clients already")
        session = self._sessions.find(hello.session) if hello.session else None
        if session is None and hello.resumes:
            return Refusal(UNKNOWN_SESSION, f"{name} does not know this node's session")
        answer = self._guests.admit(hello, peer.number, self._mark, self._clock())
        if isinstance(answer, Refusal):
            return answer
        return session or self._sessions.begin(hello.session, hello.host), answer

    def _dismiss(self, peer: Peer, error: WireError) -> None:
        """Close the connection of a message that was not understood; send a refusal if one fits."""
        refusal = None if peer.session is not None else self._entrance.refusal_for(error)
        if refusal is not None:
            peer.channel.drop_protection()
            self._refuse(peer, refusal)
        elif isinstance(error, TlsError):
            peer.is_leaving = True
            self._send(peer, [])  # the alert of TLS
        else:
            self._let_go(peer)

    def _crowd_out(self, stranger: Peer) -> None:
        """Let a stranger go for another one; a node is told, as it shall come again."""
        if not stranger.channel.has_begun_tls:
            stranger.channel.drop_protection()
            self._refuse(stranger, Refusal(CROWDED, ""))
        self._let_go(stranger)

    def _refuse(self, peer: Peer, refusal: Refusal) -> None:
        peer.is_leaving = True
        self._send(peer, [write_refusal(refusal)])

    def _send_to(self, session: Session, frames: Frames) -> None:
        peer = self._peers.get(session.client or 0)
        # A client that is leaving has broken the protocol; its TLS may take nothing any more.
        if peer is not None and not peer.is_leaving:  # else it asks again, if it comes back
            self._send(peer, frames)

    def _send(self, peer: Peer, frames: Frames) -> None:
        """Send as much as can be sent now, and the rest when the client reads."""
        peer.queue(frames)
        if peer.queued > self._limits.queued_bytes:
            self._cut_off(peer)
        elif peer is not self._heard and peer.number not in self._pressed:
            try:
                self._flush(peer)
            except OSError:
                self._let_go(peer)
        self._weigh(peer)

    def _weigh(self, peer: Peer) -> None:
        """Let the client go for which the most is held, if too much is held for all."""
        if peer.number not in self._peers:
            return
        self._held += peer.weigh()
        if self._held > self._limits.held_bytes:
            self._cut_off(max(self._peers.values(), key=lambda each: each.held))

    def _flush(self, peer: Peer) -> None:
        has_sent, queued = peer.flush(), peer.queued
        if queued and peer.number not in self._pressed:
            self._pressed[peer.number] = peer
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._selector.modify(peer.connection, both, peer)
            has_sent = True
        if queued and has_sent:
            peer.deadline = self._clock() + self._limits.stall_s
        elif not queued:
            if self._pressed.pop(peer.number, None) is not None:
                self._selector.modify(peer.connection, selectors.EVENT_READ, peer)
            peer.deadline = None if peer.session is not None else peer.deadline
            if peer.is_leaving:
                self._let_go(peer)

    def _cut_off(self, peer: Peer) -> None:
        """Let a client go that reads nothing."""
        if peer.session is not None:
            log.warning(
                "%s: %s reads nothing of what it asks for", self._name, peer.name or "this node"
            )
        peer.discard_unsent()
        self._let_go(peer)

    def _let_go(self, peer: Peer) -> None:
        if self._peers.pop(peer.number, None) is None:
            return
        self._held -= peer.held
        self._strangers.pop(peer.number, None)
        self.unread.pop(peer.number, None)
        self._pressed.pop(peer.number, None)
        self._selector.unregister(peer.connection)
        peer.connection.close()  # the kernel still sends what it has
        session = peer.session
        if session is None:
            return
        self._guests.leave(peer.number)
        if session.client == peer.number:
            self._answers.leave(session)
            self._sessions.break_off(session, self._clock())
