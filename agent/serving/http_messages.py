"""Reads HTTP requests from bytes, and writes answers as bytes, for the small HTTP server."""

from __future__ import annotations

import re

from ...rendezvous.named_tuple import NamedTuple

MAX_HEAD_BYTES = 8_192

_METHOD_NOT_ALLOWED = 405
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.[0-9]\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class Answer(NamedTuple):
    """The answer to a request.

    Args:
        status: The HTTP status code.
        body: The text, or its bytes.
        content_type: The type of the text.
    """

    status: int
    body: str | bytes
    content_type: str = "text/plain; charset=utf-8"

    def to_bytes(self) -> tuple[bytes, bytes]:
        """Return head and body of the HTTP response."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        allow = "Allow: GET, HEAD\r\n" if self.status == _METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode(), body


class Request(NamedTuple):
    """A complete request.

    Args:
        path: The path, without a query.
        wants_body: False for HEAD.
    """

    path: str
    wants_body: bool


def parse_request(data: bytes) -> Request | Answer | None:
    """Return the request at the start of the data; an answer if it is bad; None if incomplete."""
    head = data.lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request are ignored
    line = _REQUEST_LINE.match(head)
    if line is None:
        if b"\n" in head:
            return Answer(400, "this is no HTTP/1.1 request\n")
    elif _END_OF_HEAD.search(head, line.end() - 2):
        method, target = line[1], line[2].decode().partition("?")[0]
        if method not in (b"GET", b"HEAD"):
            return Answer(405, "only GET and HEAD are answered here\n")
        return Request(target, wants_body=method == b"GET")
    if len(data) >= MAX_HEAD_BYTES:
        return Answer(431, f"a request has {MAX_HEAD_BYTES} bytes at most\n")
    return None
