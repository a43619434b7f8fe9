"""A cable between two programs on this machine, whose connections a test can break off."""

import contextlib
import socket
import threading

from elrun.rendezvous.network.addresses import Endpoint

HERE = "127.0.0.1"


class Cable:
    """A port that leads to another one; what goes through it can be broken off.

    ``made`` is released with each connection, once the far side has answered over it.
    """

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server((HERE, 0))
        self.ends = []
        self.every = []
        self.is_down = False
        self.made = threading.Semaphore(0)
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()

    @property
    def endpoint(self):
        return Endpoint(HERE, self.listener.getsockname()[1])

    def carry(self):
        with contextlib.suppress(OSError):
            while True:
                end, _ = self.listener.accept()
                self.every.append(end)
                if not self.is_down and (other := self.dial()) is not None:
                    self.join(end, other)
                else:
                    end.close()

    def dial(self):
        with contextlib.suppress(OSError):
            other = socket.create_connection((HERE, self.port))
            self.every.append(other)
            return other

    def join(self, end, other):
        self.ends += [end, other]
        for here, there, on_first in (
            (end, other, lambda: None),
            (other, end, self.made.release),
        ):
            threading.Thread(target=self.copy, args=(here, there, on_first), daemon=True).start()

    @staticmethod
    def copy(here, there, on_first):
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                there.sendall(data)
                on_first()
                on_first = lambda: None  # noqa: E731  once
        shut(here, there)

    def break_off(self):
        """End all connections, with a last word to both sides."""
        ends, self.ends = self.ends, []
        shut(*ends)

    def close(self):
        shut(self.listener)
        self.thread.join()
        self.listener.close()
        self.break_off()
        for end in self.every:
            end.close()


def shut(*ends):
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
