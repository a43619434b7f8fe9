"""One attempt to connect to a store server."""

from __future__ import annotations

import os
import socket
import time

from ...named_tuple import NamedTuple
from ...network.addresses import Endpoint
from .frames import FrameReader, WireError
from .hello import MAX_HELLO_BYTES, Hello, Refusal, read_answer_to_hello, write_hello
from .peer import keep_alive


class Unreached(NamedTuple):
    """Why there is no connection.

    Args:
        reason: In words.
        is_foreign: Whether a program answers there, and not as a store server does.
        is_vacant: Whether the host is there, and no program listens at the port.
    """

    reason: str
    is_foreign: bool = False
    is_vacant: bool = False


def dial(
    endpoint: Endpoint, hello: Hello, connect_s: float, handshake_s: float
) -> socket.socket | Refusal | Unreached:
    """Return a connection whose server has let this client in, or why there is none.

    Args:
        endpoint: Where the server should be.
        hello: What this client says of itself.
        connect_s: Seconds until the host has to answer.
        handshake_s: Seconds until the server has to.
    """
    try:
        connection = socket.create_connection(endpoint, connect_s)
    except socket.gaierror as error:
        return Unreached(f"the name {endpoint.host} can't be resolved ({error.strerror})")
    except UnicodeError:  # a name that is too long, or has an empty part
        return Unreached(f"{endpoint.host} can't be a host name")
    except TimeoutError:
        return Unreached("it does not answer")
    except OSError as error:
        is_vacant = isinstance(error, ConnectionRefusedError)
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Unreached(reason, is_vacant=is_vacant)
    try:
        keep_alive(connection)
        answer = shake_hands(connection, hello, handshake_s)
    except (OSError, WireError):
        connection.close()
        return Unreached("a program answers that is no store server", is_foreign=True)
    if isinstance(answer, Refusal):
        connection.close()
        return answer
    return connection


def shake_hands(connection: socket.socket, hello: Hello, timeout_s: float) -> str | Refusal:
    """Introduce this client; return the mark of the store that lets it in, or why it does not.

    Args:
        connection: A connection to a server that has answered nothing yet.
        hello: What this client says of itself.
        timeout_s: Seconds for all of it.

    Raises:
        OSError: The connection is lost, or nothing came in time.
        WireError: It is no store server that answers.
    """
    deadline = time.monotonic() + timeout_s
    connection.settimeout(timeout_s)
    connection.sendall(write_hello(hello))
    frames = FrameReader(MAX_HELLO_BYTES)
    while data := connection.recv(MAX_HELLO_BYTES):
        for message in frames.feed(data):
            return read_answer_to_hello(message)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer comes too slowly")
        connection.settimeout(left_s)
    raise WireError("it closes the connection")
