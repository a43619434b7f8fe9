# ruff: noqa: SLF001  what Python keeps of itself has no public names

"""Stops an interpreter on the way to its script, and lets forked copies of it go on as workers.

Our ``sitecustomize`` (of `agent/workers`) calls ``serve`` in the middle of Python's start, when all
is set up but for the script, and nothing of the script has been touched. There the interpreter
stops. It imports the modules that it was asked for, and then, for each worker that the agent wants,
forks a process in which ``serve`` simply returns. There the start goes on where it was: what runs
the script, with whatever arguments, as a file, a folder, a module or a command, is Python itself.
So a preloaded worker can't but have the same ``__main__``, the same tracebacks and the same end as
an executed one, and this file has to care only for what a process is born with: its environment,
its descriptors, its session, its entropy.

A worker is the child of a child that ends at once. An orphan, it is adopted by the agent, whose
child it is from then on. It has a socket to the agent of its own, its line. There the agent greets
it, so that none goes on that the agent doesn't know of, and sends what it is to run: at once, or
when the next attempt begins. A process whose line ends has no agent any more, and ends. The
preloading process ends when the agent closes its socket.

Nothing else of elrun is imported here: the interpreter may be another than the agent's, and the
worker is the user's.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import io
import json
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

_HEADER_BYTES = 8
_PRESENT = b"\1"
_MOST_FDS = 250
_FAULT = 70
_PR_SET_PDEATHSIG = 1
_OF_SCHEDULERS = (signal.SIGUSR1, signal.SIGUSR2)  # which send them to every process of a job
_PROT_READ, _MAP_PRIVATE, _PAGE = 1, 2, 4096
_STANDARD_ERROR = 2


def serve(settings: str, run_own_customization: Callable[[], Exception | None]) -> Exception | None:
    """Return in each worker, and nowhere else.

    Args:
        settings: The modules to import and the agent's socket, as JSON.
        run_own_customization: Imports the user's own ``sitecustomize``, if there is one.

    Returns:
        What that raised, for ``site`` to deal with.
    """
    try:
        return _serve_workers(json.loads(settings), run_own_customization)
    except BaseException:  # noqa: BLE001  site would go on after it
        _fail()


def _serve_workers(
    settings: dict[str, Any], run_own_customization: Callable[[], Exception | None]
) -> Exception | None:
    own_name = _rename("elrun-preload")
    for number in _OF_SCHEDULERS:
        signal.signal(number, signal.SIG_IGN)
    problem = run_own_customization()  # each worker raises it again
    birth = dict(os.environ)
    libc = _CFunctions()
    with socket.socket(fileno=settings["socket"]) as channel:
        channel.set_inheritable(False)
        imports = _load_imports()
        refusal = imports["import_named"](settings["modules"])
        _let_go_of_streams()
        _answer_import(channel, refusal)
        request, fds = _serve(channel, imports["import_learnt"])
    with socket.socket(fileno=fds.pop()) as line:
        _begin_session(line, request["agent"], libc)
        if "store" in request:
            line.close()
            _serve_store(request["store"], *fds)
        _part_from_origin(libc)
        if request["waits"]:
            _rename("elrun-waiting")
            _await_call(line)
        order, received = _receive(line) or _end()
    for number in _OF_SCHEDULERS:
        if signal.getsignal(number) is signal.SIG_IGN:  # else a module handles it
            signal.signal(number, signal.SIG_DFL)
    made = {name: value for name, value in os.environ.items() if birth.get(name) != value}
    _become_worker(order, received, libc)
    # What a module has put there is there in a worker that imports it, too.
    os.environ.update(
        (name, made[name]) for name in made if os.environ.get(name) == birth.get(name)
    )
    _rename(own_name)
    if (asked := sys.modules.get("elrun.agent.workers.preemption")) is not None:
        asked.begin_worker()
    return problem


def _fail() -> NoReturn:
    """Say what went wrong, and end: the start must not go on as if nothing had been."""
    import traceback  # never, one hopes

    traceback.print_exc()
    os._exit(_FAULT)


def _let_go_of_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a module may have put anything there
            stream.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)


def _load_imports() -> dict[str, Any]:
    """Run ``imports.py``, which is no module, either; return its names."""
    name, path = "elrun_imports", os.path.join(os.path.dirname(__file__), "imports.py")
    names = {"__name__": name, "__file__": path}
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader(name, path)
    exec(loader.get_code(name), names)  # noqa: S102  the file is ours
    return names


def _serve(
    channel: socket.socket, import_learnt: Callable[[dict[str, Any], socket.socket], str]
) -> tuple[dict[str, Any], list[int]]:
    """Fork what each request asks for; return the request, and descriptors, in a forked process.

    Of the descriptors that came with a request the last ones are the processes' lines; in each
    process the last one is its own.
    """
    while True:
        request, fds = _receive(channel) or _finalize_own()
        if "hurry" in request:  # it has ended the pauses of an import
            continue
        if "modules" in request:
            _answer_import(channel, import_learnt(request, channel))
            continue
        lines = fds[-request["count"] :]
        try:
            _require_free(set(request["fds"]) - {0, 1, 2, channel.fileno(), *fds})
            place, pids = _fork_orphans(len(lines))
            answer: dict[str, Any] = {"pids": pids}
        except OSError as error:
            place, answer = -1, {"refusal": error.strerror}
        kept = [] if place < 0 else [*fds[: -len(lines)], lines[place]]
        for fd in {*fds}.difference(kept):
            os.close(fd)
        if kept:
            return request, kept
        _answer(channel, answer)


def _answer_import(channel: socket.socket, refusal: str) -> None:
    _answer(channel, {"refusal": refusal, "has_torch": "torch.distributed" in sys.modules})


def _require_free(numbers: set[int]) -> None:
    if taken := numbers & _open_descriptors():
        raise FileExistsError(0, f"a module holds descriptor {min(taken)}, which a worker needs")


def _open_descriptors() -> set[int]:
    folder = "/proc/self/fd"  # the listing's own is closed by the time that it is looked for
    return {int(name) for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}")}


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return what the agent has sent, and its descriptors; None: the channel has ended."""
    header, fds, _, _ = socket.recv_fds(
        channel, _HEADER_BYTES, _MOST_FDS, socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL
    )
    left = int.from_bytes(header, "big")
    body = b""
    while len(body) < left and (data := channel.recv(left - len(body))):
        body += data
    if not header or len(body) < left:  # the agent has gone, or needs no more workers
        return None
    return json.loads(body), fds


def _answer(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # the agent has gone
        os._exit(0)


def _fork_orphans(count: int) -> tuple[int, list[int]]:
    """Fork processes that are nobody's children but the agent's: by a process that ends at once.

    Returns:
        The place among them, in each of them, and -1 here; the ids of those that could be forked.
    """
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as file, contextlib.ExitStack() as writing:
        writing.callback(os.close, write_end)
        with warnings.catch_warnings():
            # Python 3.12 warns of native threads, too. Those of numerical libraries can be forked.
            warnings.simplefilter("ignore", DeprecationWarning)
            between = os.fork()
            if between == 0:
                pid = -1
                try:
                    for place in range(count):
                        pid = os.fork()
                        if pid == 0:
                            return place, []
                        os.write(write_end, b"%d\n" % pid)
                finally:
                    if pid:
                        os._exit(0)
        writing.close()
        os.waitpid(between, 0)  # only now the agent is the parent
        pids = [int(line) for line in file]
    if not pids:
        raise BlockingIOError(0, "too many processes, or not enough memory")
    return -1, pids


class _CFunctions:
    """Functions of C, found once: to find one writes to pages, which each worker would copy."""

    def __init__(self) -> None:
        library = ctypes.PyDLL(None)
        self.keep = library.Py_IncRef
        self.keep.argtypes = [ctypes.py_object]
        self.prctl = library.prctl
        self.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        self.mmap = library.mmap
        self.mmap.restype = ctypes.c_void_p
        place: list[Any] = [ctypes.c_void_p, ctypes.c_size_t]
        self.mmap.argtypes = [*place, *[ctypes.c_int] * 3, ctypes.c_long]


def _begin_session(line: socket.socket, agent: int, libc: _CFunctions) -> None:
    """Be a child of the agent's, which dies with it."""
    os.setsid()
    if not line.recv(1):
        _end()  # the agent doesn't know of this process
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent:
        os._exit(128 + signal.SIGKILL)


def _await_call(line: socket.socket) -> None:
    """Wait until the next attempt begins: the agent then calls, and an answer shows who is there.

    The agent learns beforehand which descriptors are taken here, for modules may hold some.
    """
    taken = _open_descriptors() - {0, 1, 2, line.fileno()}
    _answer(line, {"taken": sorted(taken)})
    if not line.recv(1):
        _end()
    line.sendall(_PRESENT)


def _end() -> NoReturn:
    os._exit(0)


def _serve_store(settings: dict[str, Any], channel_fd: int) -> NoReturn:
    """Serve the workers' store, with a program that the agent has, until the agent ends this."""
    from importlib import util  # workers do without

    spec = util.spec_from_file_location("elrun_store_host", settings["program"])
    program = util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(program)  # type: ignore[union-attr]
    program.run(
        lambda: importlib.import_module("torch.distributed").TCPStore,
        channel_fd,
        use_libuv=settings["use_libuv"],
    )
    os._exit(_FAULT)


def _part_from_origin(libc: _CFunctions) -> None:
    """Change what needs no order: in a worker that waits it is done before a restart."""
    _renew_entropy()
    _leave_finalizers_alone(libc)
    if (threading := sys.modules.get("threading")) is not None:
        threading.main_thread()._set_native_id()  # a fork forgets it before 3.13


def _become_worker(order: dict[str, Any], received: list[int], libc: _CFunctions) -> None:
    """Give this process what an executed worker is born with."""
    _carry_mark(libc, order["mark"])
    _replace_environment(order["environment"])
    _place(received, order["fds"])
    _begin_streams_anew(set(order["fds"]))
    sys.argv[1:] = order["args"]
    sys.orig_argv[:] = order["command"]


def _replace_environment(wanted: dict[str, str]) -> None:
    """Let the environment be as wanted, and in that order; most of it is so already."""
    for name in [*os.environ]:
        if name not in wanted:
            del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    known: dict[Any, Any] = getattr(os.environ, "_data", {})  # or a module's own mapping
    for encoded in map(os.fsencode, wanted if known else ()):
        known[encoded] = known.pop(encoded)


def _place(received: list[int], wanted: list[int]) -> None:
    """Give descriptors the numbers that they have in the agent."""
    above = max(wanted) + 1
    safe = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in received]
    for fd in {0, 1, 2, *received}:
        os.close(fd)
    for fd, number in zip(safe, wanted, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _begin_streams_anew(open_fds: set[int]) -> None:
    """Let the standard streams forget what they were connected to.

    They stay the objects that they are: a logging handler may have been given one.
    """
    is_buffered = not sys.__stdout__.write_through  # type: ignore[union-attr]
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = getattr(sys, f"__{name}__")
        if fd not in open_fds:  # as Python does where one is closed
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
            continue
        encoding, errors, buffer = stream.encoding, stream.errors, stream.buffer
        raw: Any = io.FileIO(fd, "r" if fd == 0 else "w", closefd=False)
        raw.name = f"<{name}>"
        if isinstance(buffer, io.FileIO):
            buffer = raw
        else:
            size = raw._blksize  # it decides how much is read ahead
            buffer.__init__(raw, size if size > 1 else io.DEFAULT_BUFFER_SIZE)
        by_line = is_buffered and (fd == _STANDARD_ERROR or raw.isatty())
        stream.__init__(buffer, encoding, errors, "\n", by_line, not is_buffered)


def _carry_mark(libc: _CFunctions, name: str) -> None:
    # /proc shows the environment of the last exec, which knew no mark. A mapping is seen as well,
    # and inherited by whatever is forked from here; nothing ever unmaps it.
    fd = os.memfd_create(name)
    os.ftruncate(fd, _PAGE)
    libc.mmap(None, _PAGE, _PROT_READ, _MAP_PRIVATE, fd, 0)
    os.close(fd)


def _renew_entropy() -> None:
    # A generator that was used during an import would go on alike in all workers. The random
    # module does this by itself after each fork. Modules of the script's may bear these names.
    with contextlib.suppress(AttributeError, TypeError):
        sys.modules.get("torch").default_generator.seed()  # type: ignore[union-attr]
    with contextlib.suppress(AttributeError, TypeError):
        sys.modules.get("numpy.random").seed()  # type: ignore[union-attr]
    with contextlib.suppress(AttributeError, TypeError):
        process = sys.modules.get("multiprocessing.process")
        process.current_process().authkey = os.urandom(32)  # type: ignore[union-attr]


def _leave_finalizers_alone(libc: _CFunctions) -> None:
    # A temporary folder that a module made belongs to all workers: none may delete it at its end.
    # What is forgotten is held for ever, since the last reference to it would finalize it, too.
    if (weakref := sys.modules.get("weakref")) is not None:
        registry: dict[Any, Any] = weakref.finalize._registry
        libc.keep(dict(registry))
        registry.clear()
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process._children.clear()


def _finalize_own() -> NoReturn:
    """Delete the temporary folders that modules made, as no worker needs them any more, and end."""
    if (weakref := sys.modules.get("weakref")) is not None:
        with contextlib.suppress(Exception):  # a module's finalizer may raise anything
            weakref.finalize._exitfunc()
    _end()


def _rename(name: str) -> str:
    """Give this process the name that ``ps`` and ``top`` show; return the name before."""
    with open("/proc/self/comm", "r+", encoding="utf-8", errors="surrogateescape") as file:
        before = file.read().rstrip("\n")
    with open("/proc/self/comm", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(name)
    return before
