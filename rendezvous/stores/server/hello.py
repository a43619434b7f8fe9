"""The handshake: how a client introduces itself to a store server, and what the server answers.

Where the nodes have a secret, client and server first exchange nonces. All that follows is sealed
(``seal.py``), the hello and its answer too, so that they prove the secret to each other.
``docs/protocol.md`` shows each message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...light_typing import Any
from ...named_tuple import NamedTuple
from .frames import MAX_NUMBER, MAX_TEXT, WireError, text_in, whole_number_in, write_frame

VERSION = 3

MAX_HELLO_BYTES = 16 << 10

OTHER_RUN = "run"
"""The kind of refusal of a node that belongs to another run."""
UNKNOWN_SESSION = "session"
"""The kind of refusal of a client that wants to go on with a session that the server hasn't."""
CROWDED = "crowded"
"""The kind of refusal of a connection that made room before it had introduced itself."""

_MAX_RANK = (1 << 31) - 1
_LONGEST_RUN_NAME = 512
_NONCE_BYTES = 16


class Hello(NamedTuple):
    """What a client says of itself.

    Args:
        run_id: The job that it is a node of, as ``name_of_run`` shortens it.
        host: Name of its host, for people.
        session: A name of its own choice that no other client has; empty: it won't come back.
        resumes: Whether it was connected before, and goes on with that session.
        node_rank: Its place among the nodes of a static rendezvous.
        nodes: How many nodes a static rendezvous has, by this node's options.
        server: The mark of the store that this node hosts itself, where it only asks for the name
            of this one's host.
    """

    run_id: str
    host: str
    session: str = ""
    resumes: bool = False
    node_rank: int | None = None
    nodes: int | None = None
    server: str = ""


class Refusal(NamedTuple):
    """Why a client is turned away.

    Args:
        kind: A word for programs.
        reason: A sentence for people.
    """

    kind: str
    reason: str


def name_of_run(run_id: str) -> str:
    """Return a run id as a hello has it: a very long one is cut, and a hash tells it apart."""
    if len(run_id) <= _LONGEST_RUN_NAME:
        return run_id
    return f"{run_id[:_LONGEST_RUN_NAME]}… {_hash_of(run_id.encode('utf-8', 'surrogateescape'))}"


def _hash_of(data: bytes) -> str:
    import hashlib  # 3 ms of the start of a job without a secret

    return hashlib.sha256(data).hexdigest()


class Opening(NamedTuple):
    """What a client with a secret sends first.

    Args:
        nonce: 16 random bytes.
        run: A hash of the nonce and the name of the run.
    """

    nonce: bytes
    run: str


def open_with(nonce: bytes, run_id: str) -> Opening:
    """Return the opening of a client of a run."""
    return Opening(nonce, _hash_of(nonce + run_id.encode("utf-8", "surrogatepass")))


def write_opening(opening: Opening) -> bytes:
    """Return the frame that a client with a secret begins with."""
    return write_frame({"elrun": VERSION, "nonce": opening.nonce.hex(), "run": opening.run})


def write_nonce(nonce: bytes) -> bytes:
    """Return a server's answer to an opening."""
    return write_frame({"elrun": VERSION, "nonce": nonce.hex()})


def read_nonce(message: Mapping[str, Any]) -> bytes:
    """Return the nonce in an opening, or in the answer to it."""
    whole_number_in(message, "elrun", VERSION, VERSION)
    try:
        nonce = bytes.fromhex(text_in(message, "nonce"))
    except ValueError as error:
        raise WireError("a nonce is no hexadecimal number") from error
    if len(nonce) != _NONCE_BYTES:
        raise WireError(f"a nonce has {_NONCE_BYTES} bytes")
    return nonce


def new_nonce() -> bytes:
    """Return random bytes, which no other connection has."""
    return os.urandom(_NONCE_BYTES)


def write_hello(hello: Hello) -> bytes:
    """Return the frame that a client begins with."""
    fields: dict[str, Any] = {"run": hello.run_id, "host": hello.host}
    optional = {
        "session": hello.session or None,
        "resumes": hello.resumes or None,
        "node_rank": hello.node_rank,
        "nodes": hello.nodes,
        "server": hello.server or None,
    }
    fields |= {name: value for name, value in optional.items() if value is not None}
    return write_frame({"elrun": VERSION, "hello": fields})


def read_first(message: Mapping[str, Any]) -> Hello | Opening | int:
    """Return what a client begins with, or its version of the protocol if that is another one."""
    version = whole_number_in(message, "elrun", 0, MAX_NUMBER)
    if version != VERSION:
        return version
    if "nonce" in message:
        return Opening(read_nonce(message), text_in(message, "run"))
    fields = message.get("hello")
    if not isinstance(fields, dict):
        raise WireError("a client begins with a hello")
    host = text_in(fields, "host")
    if not host.isprintable():  # it stands in sentences for people
        raise WireError("host is no name")
    has_rank, has_nodes = "node_rank" in fields, "nodes" in fields
    return Hello(
        run_id=text_in(fields, "run"),
        host=host,
        session=text_in(fields, "session") if "session" in fields else "",
        resumes=fields.get("resumes") is True,
        node_rank=whole_number_in(fields, "node_rank", 0, _MAX_RANK) if has_rank else None,
        nodes=whole_number_in(fields, "nodes", 1, _MAX_RANK) if has_nodes else None,
        server=text_in(fields, "server") if "server" in fields else "",
    )


def write_welcome(mark: str) -> bytes:
    """Return the answer to a client that is let in; the mark is the store's own."""
    return write_frame({"elrun": VERSION, "welcome": mark})


def write_refusal(refusal: Refusal) -> bytes:
    """Return the answer to a client that is turned away."""
    reason = refusal.reason[:MAX_TEXT]
    return write_frame({"elrun": VERSION, "refused": refusal.kind, "reason": reason})


def read_answer_to_hello(message: Mapping[str, Any]) -> str | Refusal:
    """Return the mark of the store that welcomes this client, or why it doesn't."""
    if "refused" in message:
        return Refusal(text_in(message, "refused"), text_in(message, "reason"))
    whole_number_in(message, "elrun", VERSION, VERSION)
    return text_in(message, "welcome")
