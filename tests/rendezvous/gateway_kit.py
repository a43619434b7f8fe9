"""What may stand between a node and its etcd: proxies, gateways and members that misbehave."""

import socket
import threading
from contextlib import suppress

HTML = b"<html><body>Welcome</body></html>"
HANG, CLOSE, HOLD_WATCHES = "hang", "close", "hold watches"


def page(status, text=HTML, kind="text/html", **fields):
    """Return an answer that a rule may give instead of etcd's."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(text)}"]
    lines += [f"{name.title()}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + text


def read_head(requests):
    """Return the lines of a request before its body; nothing if the connection has ended."""
    lines = []
    while (line := requests.readline()) not in {b"", b"\r\n"}:
        lines.append(line)
    return b"".join(lines)


class Between:
    """Takes requests at a port of its own, and passes them on to a real etcd, as a rule says.

    Args:
        endpoint: The real etcd, as ``HOST:PORT``.
        rule: From a path and the number of the request, returns an answer; ``HANG``; ``CLOSE``: no
            answer, and the end of the connection; ``HOLD_WATCHES``: what a watch reports never
            comes; a function that changes the path; or None: pass it on.
        after: What follows each answer: ``CLOSE`` ends the connection, though nothing said so.
        cut: A function of what a watch reports; if it returns True, nothing further is passed on.
    """

    def __init__(self, endpoint, rule=lambda path, number: None, after=None, cut=None):
        host, _, port = endpoint.rpartition(":")
        self._upstream = (host, int(port))
        self._rule, self._after, self._cut = rule, after, cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open = {self._listener}
        self.paths = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _keep(self, connection):
        with self._lock:
            self._open.add(connection)
        return connection

    def _accept(self):
        with suppress(OSError):
            while True:
                client = self._keep(self._listener.accept()[0])
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with suppress(OSError), client, client.makefile("rb") as requests:
            while head := read_head(requests):
                fields = head.lower()
                start = fields.find(b"content-length: ")
                length = int(fields[start + 16 :].split(b"\r\n")[0]) if start > 0 else 0
                body = requests.read(length)
                if not self._answer(client, head, body):
                    return

    def _answer(self, client, head, body):
        """Return whether the connection may go on."""
        path = head.split(b" ")[1].decode()
        with self._lock:
            self.paths.append(path)
            number = len(self.paths)
        action = self._rule(path, number)
        if action is HANG:
            threading.Event().wait(60)
            return False
        if action is CLOSE:
            return False
        if isinstance(action, bytes):
            client.sendall(action)
            return self._after is not CLOSE
        if callable(action):
            head = head.replace(path.encode(), action(path).encode(), 1)
        self._pass_on(client, head + b"\r\n" + body, is_held=action is HOLD_WATCHES)
        return False

    def _pass_on(self, client, request, *, is_held):
        """Send one request to etcd, and pass on what comes, until either side ends it."""
        is_watch = b"/watch" in request.split(b"\r\n")[0]
        request = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with self._keep(socket.create_connection(self._upstream)) as upstream:
            upstream.sendall(request)
            while data := upstream.recv(1 << 16):
                if is_watch and (is_held or (self._cut is not None and self._cut(data))):
                    continue
                client.sendall(data.replace(b"Connection: close\r\n", b""))
