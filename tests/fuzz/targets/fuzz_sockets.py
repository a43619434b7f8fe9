"""Stands in for a connection of which a target is both ends."""


class FakeSocket:
    """Gives the bytes in ``given``; takes what is sent, all of it or ``takes`` bytes."""

    def __init__(self, given=b""):
        self.given = given
        self.taken = b""
        self.takes = None
        self.is_closed = False

    def fileno(self):
        return -1

    def setblocking(self, flag):
        pass

    def settimeout(self, seconds):
        pass

    def setsockopt(self, *args):
        pass

    def recv(self, size):
        data, self.given = self.given[:size], self.given[size:]
        return data

    def send(self, data, flags=0):
        if self.takes is not None and not self.takes:
            raise BlockingIOError
        size = len(data) if self.takes is None else min(self.takes, len(data))
        self.taken += bytes(data[:size])
        return size

    def sendall(self, data):
        self.taken += bytes(data)

    def close(self):
        self.is_closed = True


class FakeSelector:
    """Watches nothing."""

    def register(self, *args):
        pass

    modify = unregister = register
