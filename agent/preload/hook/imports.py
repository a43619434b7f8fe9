"""Imports modules in a fork server, and says whether workers may be forked from it afterwards.

What the user has named is imported before there are workers. What a script has imported itself
(``--preload auto``) is imported while workers run, which must not notice: at the lowest priority,
or with pauses. And nobody has asked for these modules by name. So whatever could make a worker that
is forked from here differ from one that imports them itself is a reason to fork none.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from select import POLLIN, poll  # select.select takes no descriptor above 1023
from types import ModuleType
from typing import Any

_PAUSE = 7
"""Where others wait for CPUs, how many times longer than it has run the process lets them."""

_DEVICES = ("/dev/nvidia-uvm", "/dev/kfd")  # open once CUDA or ROCm has been initialised


def import_named(names: list[str]) -> str:
    """Import modules that the user has named.

    Returns:
        Why nothing may be forked afterwards, or nothing.
    """
    atexit.register(_flush_files)  # the first that is registered is the last that is called
    with _without_garbage_collection():
        return _import_modules(names) or _reason_not_to_fork()


def import_learnt(request: dict[str, Any], channel: socket.socket) -> str:
    """Import modules that a script imports.

    Args:
        request: The modules, and those that must not be among what they import.

    Returns:
        Why nothing may be forked afterwards, or nothing.
    """
    before = _open_descriptors()
    aside = _out_of_the_way(channel) if request["out_of_the_way"] else contextlib.nullcontext()
    with _without_garbage_collection(), aside:
        for each in request["modules"]:
            with _environment_with(each["changes"]):
                refusal = _import_modules([each["name"]])
            if refusal or (refusal := _reason_of_another(each["name"], each["origin"])):
                return refusal
    if asking := sys.modules.keys() & {*request["asking"]}:
        return f"{min(asking)} asks for the worker's rank or the like while it is imported"
    return _reason_not_to_fork() or _reason_not_to_share(before)


def _reason_of_another(name: str, origin: str) -> str:
    """Return how a module differs from that which workers have imported, or nothing."""
    found = ""
    with contextlib.suppress(Exception):  # what stands in the module's place may raise anything
        spec = getattr(sys.modules.get(name), "__spec__", None)
        found = getattr(spec, "origin", None) or ""
    return "" if found == origin else f"{name} is {found or 'no file'}, but {origin} in workers"


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Look for no garbage among what is imported: not now, and never in a worker.

    There is hardly any. To look for it writes to every object, and so takes each worker a copy of
    all memory that it shares with the others; most of all at its end, where that takes half a
    second after ``import torch``.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(0)
    yield
    if gc.get_threshold()[0] == 0:  # else a module knows better
        gc.set_threshold(*thresholds)
    with _open_to_collection(sys.modules["__main__"]):
        gc.freeze()


@contextlib.contextmanager
def _open_to_collection(main: ModuleType) -> Iterator[None]:
    """Keep a module out of the freeze: what a worker's script has in it is freed at the end.

    Functions of the script refer to the module's names, and these to the functions. Only garbage
    collection frees them: it finalizes objects that the script has left, and closes its files.
    """
    python = ctypes.PyDLL(None)
    parts = [ctypes.py_object(each) for each in (main, vars(main))]
    tracked = [each for each in parts if gc.is_tracked(each.value)]
    for each in tracked:
        python.PyObject_GC_UnTrack(each)
    yield
    for each in tracked:
        python.PyObject_GC_Track(each)


def _flush_files() -> None:
    """Write, at a worker's end, what files still hold, as Python does when it frees them.

    One that was put into a module that is frozen is freed no more. Frozen files are not looked at.
    """
    writers = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for each in gc.get_objects():
        if issubclass(type(each), writers):
            with contextlib.suppress(Exception):  # it is closed, or nobody reads
                each.flush()


def _import_modules(names: list[str]) -> str:
    """Import modules as the script would; return a reason why that failed, or nothing."""
    folder = _script_folder()
    sys.path.insert(0, folder)
    name = ""
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  a module may raise anything
        lines = str(error).splitlines() or [""]
        return f"{name} can't be imported ({type(error).__name__}: {lines[0]})"
    finally:
        with contextlib.suppress(ValueError):  # a module removed it
            sys.path.remove(folder)
    return ""


def _script_folder() -> str:
    if sys.argv[0] in ("-m", "-c"):
        return os.getcwd()
    path = os.path.realpath(sys.argv[0])
    return path if os.path.isdir(path) else os.path.dirname(path)


@contextlib.contextmanager
def _environment_with(changes: list[str]) -> Iterator[None]:
    """Let the environment be for a while what the script had made of it when it imported."""
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for change in changes:
        name, has_value, value = change.partition("=")
        before[name] = os.environ.get(name)
        after[name] = value if has_value else None
    _change_environment(after)
    yield
    _change_environment(before)


def _change_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _out_of_the_way(channel: socket.socket) -> Iterator[None]:
    """Take no CPU that others want; the processes to be forked take their share again."""
    with contextlib.ExitStack() as back:
        _take_least_priority(channel, back)
        if _wait_readable(channel, 0.0):  # the agent wants it done soon, by now
            back.close()
        yield


def _take_least_priority(channel: socket.socket, back: contextlib.ExitStack) -> None:
    """Let everything else run first.

    Few may leave the lowest priority again: there the process makes pauses instead.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    if _may_return_to(policy, parameter):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        back.callback(_return_to, policy, parameter)
    else:
        pauses = _Pauses(channel)
        sys.meta_path.insert(0, pauses)  # it finds nothing
        back.callback(_remove_finder, pauses)


def _return_to(policy: int, parameter: os.sched_param) -> None:
    if os.sched_getscheduler(0) != policy:
        os.sched_setscheduler(0, policy, parameter)


def _remove_finder(finder: Any) -> None:
    with contextlib.suppress(ValueError):  # a module removed it
        sys.meta_path.remove(finder)


def _may_return_to(policy: int, parameter: os.sched_param) -> bool:
    """Try it in a process that is forked for that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of native threads
        pid = os.fork()
    if pid == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, policy, parameter)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


class _Pauses:
    """A finder of modules that finds none: each time it is asked it makes room for others.

    Args:
        channel: The agent's end of it ends the pauses.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._ran_ns, self._waited_ns = self._times()

    def find_spec(self, *_: object) -> None:
        ran_ns, waited_ns = self._times()
        if waited_ns - self._waited_ns > (ran_ns - self._ran_ns) // 4 > 0:
            _wait_readable(self._channel, _PAUSE * (ran_ns - self._ran_ns) / 1e9)
            ran_ns, waited_ns = self._times()
        self._ran_ns, self._waited_ns = ran_ns, waited_ns

    @staticmethod
    def _times() -> tuple[int, int]:
        """Return for how long this process has run, and waited for a CPU, in nanoseconds."""
        try:
            with open("/proc/self/schedstat", "rb") as file:
                ran, waited, _ = map(int, file.read().split())
        except (OSError, ValueError):  # the kernel doesn't count
            return 0, 0
        return ran, waited


def _wait_readable(channel: socket.socket, within_s: float) -> bool:
    waiting = poll()
    waiting.register(channel, POLLIN)
    return bool(waiting.poll(within_s * 1000))


def _open_descriptors() -> dict[int, str]:
    """Return what each descriptor leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _reason_not_to_fork() -> str:
    """Return what makes the process unfit to be forked, or nothing."""
    if _thread._count():  # noqa: SLF001  it counts those that the threading module doesn't know, too
        threading = importlib.import_module("threading")
        main = threading.main_thread()
        names = ", ".join(each.name for each in threading.enumerate() if each is not main)
        return f"a module started threads ({names or 'unnamed'}), which a fork would lose"
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)  # or the script's own module torch
    has_device = not {*_DEVICES}.isdisjoint(_open_descriptors().values())
    if has_device or (callable(is_initialized) and is_initialized()):
        return "a module initialised CUDA, which can't be used after a fork"
    return ""


def _reason_not_to_share(before: dict[int, str]) -> str:
    """Return what modules have opened or started that ought to be one worker's own, or nothing.

    Args:
        before: The descriptors that were open before, and where they lead.
    """
    for fd, target in _open_descriptors().items():
        if before.get(fd) == target:
            continue
        is_written = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if is_written or target.startswith(("socket:", "pipe:")):
            return f"a module opened {target}, which all workers would share"
    with open("/proc/thread-self/children", "rb") as file:
        children = file.read().split()
    return "a module started a process" if children else ""
