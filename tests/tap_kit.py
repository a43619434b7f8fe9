"""A place on the network between a client and a store server that reads and changes what passes."""

import contextlib
import socket
import threading

HERE = "127.0.0.1"


class TappedLink:
    """One connection that passes through a tap, frame by frame."""

    def __init__(self, tap, client, server):
        self.tap = tap
        self.client = client
        self.server = server
        self.to_server = []
        self.lock = threading.Lock()
        ways = ((client, server, self.to_server), (server, client, []))
        self.threads = [threading.Thread(target=self.carry, args=way, daemon=True) for way in ways]
        for thread in self.threads:
            thread.start()

    def carry(self, source, sink, record):
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while head := stream.read(4):
                frame = head + stream.read(int.from_bytes(head, "big"))
                record.append(frame)
                frame = self.tap.passed(frame)
                with self.lock:
                    sink.sendall(frame)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.client.close()
        self.server.close()

    def frames_to_server(self):
        return list(self.to_server)

    def inject(self, frame):
        """Send a frame to the server once more."""
        with self.lock:
            self.server.sendall(frame)


class Tap:
    """A port that leads to a store server's."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.listener = socket.create_server((HERE, 0))
        self.port = self.listener.getsockname()[1]
        self.links = []
        self.changes = {}
        self.left_out = None
        self.has_changed = False
        self.has_left_out = threading.Event()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                try:
                    server = socket.create_connection((HERE, self.server_port))
                except OSError:  # the server is gone
                    client.close()
                    continue
                self.links.append(TappedLink(self, client, server))

    def sent(self):
        """Return what each client has sent."""
        return [b"".join(link.frames_to_server()) for link in self.links]

    def change(self, old, new):
        """Put other bytes of the same length in the place of these, once."""
        self.changes[old] = new

    def leave_out(self, part):
        """Let the next frame with this part not pass."""
        self.left_out = part

    def passed(self, frame):
        for old in [old for old in self.changes if old in frame]:
            frame = frame.replace(old, self.changes.pop(old))
            self.has_changed = True
        if self.left_out is not None and self.left_out in frame:
            self.left_out = None
            self.has_left_out.set()
            return b""
        return frame

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for link in self.links:
            link.close()
