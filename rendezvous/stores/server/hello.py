"""The handshake: how a client introduces itself to a store server, and what the server answers.

    {"elrun":2,"hello":{"run":"job","host":"b","session":"c0ffee","node_rank":1,"nodes":2}}
    {"elrun":2,"welcome":"a1b2"}
    {"elrun":2,"refused":"run","reason":"…"}

A client sends this before anything else. Every version of the protocol begins like this, so that
nodes with different versions of elrun can refuse each other with a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .frames import MAX_NUMBER, MAX_TEXT, WireError, text_in, whole_number_in, write_frame

VERSION = 2

MAX_HELLO_BYTES = 16 << 10

OTHER_RUN = "run"
"""The kind of refusal of a node that belongs to another run."""
UNKNOWN_SESSION = "session"
"""The kind of refusal of a client that wants to go on with a session that the server hasn't."""

_MAX_RANK = (1 << 31) - 1
_LONGEST_RUN_NAME = 512


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says of itself.

    Args:
        run_id: The job that it is a node of, as ``name_of_run`` shortens it.
        host: Name of its host, for people.
        session: A name of its own choice that no other client has; empty: it won't come back.
        resumes: Whether it was connected before, and goes on with that session.
        node_rank: Its place among the nodes of a static rendezvous.
        nodes: How many nodes a static rendezvous has, as this one was told.
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


@dataclass(frozen=True, slots=True)
class Refusal:
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
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{run_id[:_LONGEST_RUN_NAME]}… {digest}"


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


def read_hello(message: Mapping[str, Any]) -> Hello | int:
    """Return what a client says of itself, or its version of the protocol if that is another one.

    Raises:
        WireError: It is no such message.
    """
    version = whole_number_in(message, "elrun", 0, MAX_NUMBER)
    if version != VERSION:
        return version
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
    """Return the mark of the store that welcomes this client, or why it doesn't.

    Raises:
        WireError: It is neither.
    """
    if "refused" in message:
        return Refusal(text_in(message, "refused"), text_in(message, "reason"))
    whole_number_in(message, "elrun", VERSION, VERSION)
    return text_in(message, "welcome")
