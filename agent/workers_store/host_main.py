"""Serves one attempt's workers' store: torch's own TCPStore, in a process that does nothing else.

The agent executes this file with its own interpreter, or forks a preload server that then runs it.
The process imports nothing of the user's and nothing else of elrun. Of torch it imports the C
extension alone, behind stand-ins for the packages around it: that takes a quarter of the time of
``import torch``, and half of the memory. If that fails, the agent starts the process again with the
whole of torch.

The process does not end by itself while its agent lives. Through a socket it gets the listener, and
reports ``ready`` to the agent, or the reason why it can't serve.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

_READY = b"ready\n"
_FAILED = 1
_NAME = "elrun-store"


def run(load: Callable[[], Any], channel_fd: int, *, use_libuv: bool) -> NoReturn:
    """Serve a store until this process is killed; if that fails, report why, and end.

    Args:
        load: Imports torch's class, and returns it.
        channel_fd: See ``serve``.
        use_libuv: Whether torch's server is its newer one.
    """
    try:
        take_name()
        serve(load(), channel_fd, use_libuv=use_libuv)
    except BaseException as error:  # noqa: BLE001  whatever torch raises, the agent is to know
        report(channel_fd, error)


def serve(tcp_store: Any, channel_fd: int, *, use_libuv: bool) -> NoReturn:
    """Serve a store until this process is killed.

    Args:
        tcp_store: torch's class.
        channel_fd: Socket by which the agent sends, now or later, a socket that listens, where
            connections may be waiting already, and reads that the store is served.
        use_libuv: Whether torch's server is its newer one.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # a scheduler sends them to every process
        signal.signal(number, signal.SIG_IGN)
    os.dup2(1, 0)  # which is nowhere, while the agent's standard input may be a pipe
    os.chdir("/")
    # Of workers' connections there may be thousands.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    channel = socket.socket(fileno=channel_fd)
    _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    if not fds:
        os._exit(0)  # the agent has gone, or needs no store
    _store = _server(tcp_store, fds[0], use_libuv=use_libuv)
    channel.send(_READY)
    channel.detach()  # open for as long as this process lives
    while True:
        signal.pause()


def _server(tcp_store: Any, listener_fd: int, *, use_libuv: bool) -> Any:
    """Return a store; before torch 2.8, only the older server takes a socket that listens."""
    with socket.socket(fileno=os.dup(listener_fd)) as listener:
        port = listener.getsockname()[1]
    try:
        return tcp_store(
            "127.0.0.1",
            port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=os.dup(listener_fd),
            use_libuv=use_libuv,
        )
    except RuntimeError:
        if not use_libuv:
            raise
    return _server(tcp_store, listener_fd, use_libuv=False)


def report(channel_fd: int, error: BaseException) -> NoReturn:
    """Send the agent the reason why the store can't be served, and end."""
    lines = str(error).splitlines() or [""]
    os.write(channel_fd, f"{type(error).__name__}: {lines[0]}"[:1000].encode(errors="replace"))
    os._exit(_FAILED)


def take_name() -> None:
    """Set a name by which ``ps`` and ``top`` distinguish this process from workers."""
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(_NAME)


def _import_extension(folder: str) -> Any:
    """Return the class from torch's C extension, without the Python packages around it."""
    for name, path in (
        ("torch", folder),
        ("torch.distributed", os.path.join(folder, "distributed")),
    ):
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package
    sys.modules["torch"].distributed = sys.modules["torch.distributed"]  # type: ignore[attr-defined]
    # The extension looks for numpy, and does without it.
    sys.modules["numpy"] = None  # type: ignore[assignment]
    extension = import_module("torch._C")
    extension._c10d_init()  # noqa: SLF001  what torch.distributed begins with
    return import_module("torch._C._distributed_c10d").TCPStore


def _main() -> NoReturn:
    settings = json.loads(sys.argv[1])

    def load() -> Any:
        del sys.path[0]  # this file's folder, whose modules are the agent's
        if settings["torch_folder"]:
            return _import_extension(settings["torch_folder"])
        sys.path[:] = settings["path"]
        return import_module("torch.distributed").TCPStore

    run(load, settings["channel_fd"], use_libuv=settings["use_libuv"])


if __name__ == "__main__":
    _main()
