# ruff: noqa: INP001, SLF001  the folder is put on PYTHONPATH, it is no package, and __future__ is a
# file; hooks of threads and frames have no public names

"""Begins a Python worker: keeps what ends it for its agent, and changes nothing else.

Python imports a module of this name in the middle of its start, when all is set up but for the
script. That is this file where PYTHONPATH begins with its folder, as it does for a worker that the
agent executes. It removes its traces from the environment and from the import path, runs the user's
own ``sitecustomize`` if there is one, and leaves three things behind:

- The hooks of ``sys`` and ``threading`` for an exception that ends a thread write the exception to
  a file of the worker's, then do what they did before.
- ``sys.exit`` and ``exit`` keep a text that they are given, or the exception that is being handled
  when they are given a number; the end of the process writes it.
- ``faulthandler`` is enabled with a file of its own: a crash leaves all threads' stacks there. At a
  signal of the agent's it writes them to a pipe.

A start must cost next to nothing. So ``last_words.py``, which writes exceptions, is loaded when
there is one, and no library is imported here: ``threading`` takes its hook from ``_thread`` when
the script imports it. Nothing else of elrun is imported either: the interpreter may be another than
the agent's, and the worker is the user's.

Where ELRUN_LEARN is set, the agent's ``learn.py`` watches what the script imports.

Where ELRUN_PRELOAD is set, this process becomes a fork server: the agent's ``fork_server.py`` takes
over, and the start goes on in the workers that are forked from it.
"""

import _thread
import atexit
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

_WORKER_VARIABLE = "ELRUN_WORKER"
_PRELOAD_VARIABLE = "ELRUN_PRELOAD"
_LEARN_VARIABLE = "ELRUN_LEARN"
_FOLDER = os.path.dirname(__file__)
_MOST_RECORDS = 20
"""How many exceptions are written that may be harmless: a server may lose a thread a second."""

_ATTEMPTS = 3
"""How often a record is tried: a handler of signals may raise in the midst of it. That of torch's
DataLoader does so when one of its processes has died."""

_SPARE_BYTES = 1 << 21
"""Address space that is given back before an exception is written, which may be a MemoryError. The
kernel gives no memory for it, since nothing is ever written there."""

_MOST_USUAL_FDS = 1024
"""faulthandler's descriptor is the last below this number, out of the way of the script's own."""

_STACK_SIGNAL = 62
"""A real-time signal that nobody else uses; at it ``faulthandler`` writes stacks."""

_MOST_EXITS = 20
_NAME_CHARS = 100

_NO_DESCRIPTORS = 24
"""EMFILE: the module ``errno`` would have to be loaded."""

_BOTTOMS = ("<module>", "_run_module_as_main")
"""Code at the bottom of the stack while a program runs; none is there when it has ended."""


def _begin() -> "Exception | None":
    """Do what precedes the script.

    Returns:
        What the user's own ``sitecustomize`` raised, for ``site`` to deal with.
    """
    order = _remove_traces()
    preload = os.environ.pop(_PRELOAD_VARIABLE, None)
    problem: Exception | None
    if preload is None:
        learn = os.environ.pop(_LEARN_VARIABLE, "")
        _keep_last_words(order)
        problem = _run_own_customization()
        _learn_imports(learn)
        return problem
    program, _, settings = preload.partition("\n")
    problem = _load(program)["serve"](settings, _run_own_customization)
    if _WORKER_VARIABLE in os.environ:  # a worker has been forked, with an environment of its own
        learn = os.environ.pop(_LEARN_VARIABLE, "")
        _keep_last_words(_remove_traces())
        _learn_imports(learn)
    return problem


def _learn_imports(order: str) -> None:
    if order:
        program, _, settings = order.partition("\n")
        _load(program)["learn"](settings)


def _remove_traces() -> str:
    """Make environment and import path those that the process would have without this file.

    Returns:
        The agent's process id and the worker's error file, with a space between them.
    """
    had_path, _, order = os.environ.pop(_WORKER_VARIABLE).partition(" ")
    python_path = os.environ.pop("PYTHONPATH").partition(os.pathsep)[2]
    if had_path == "1":
        os.environ["PYTHONPATH"] = python_path
    if _FOLDER in sys.path:
        sys.path.remove(_FOLDER)
        sys.path_importer_cache.pop(_FOLDER, None)
    return order


def _run_own_customization() -> "Exception | None":
    """Import the module that this one stands in front of; most often there is none."""
    sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except Exception as error:  # noqa: BLE001  this module raises it once more
        return error
    return None


def _load(path: str) -> "dict[str, Any]":
    """Run a file that is no module, and return its names."""
    name = "elrun_hook"
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader(name, path)
    names = {"__name__": name, "__file__": path}
    exec(loader.get_code(name), names)  # noqa: S102  the file is ours
    return names


def _keep_last_words(order: str) -> None:
    agent, _, path = order.partition(" ")
    if not path or agent != str(os.getppid()):  # a program between took the environment along
        return
    keeper = _Keeper(path)
    keeper.hook_exceptions()
    keeper.hook_exit()
    keeper.hook_crashes()
    keeper.offer_fd = _offer_stacks()


def _offer_stacks() -> int:
    """Let a signal write all threads' stacks to a pipe, from which the agent may read them.

    Without a reader nothing is kept, and no write can block. See the agent's ``system/stacks.py``.

    Returns:
        The pipe's descriptor, or -1: there can be none.
    """
    import faulthandler  # built in

    try:
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        number = min(os.sysconf("SC_OPEN_MAX"), _MOST_USUAL_FDS) - 2
        fd = os.dup2(write_fd, number, inheritable=False)
        os.close(write_fd)
        faulthandler.register(_STACK_SIGNAL, fd)
    except (OSError, RuntimeError, ValueError):
        return -1
    return fd


class _Keeper:
    """Writes what ends this process, and nothing where a child forked from it ends.

    Args:
        path: The worker's error file: what ended the main thread. Where it is not certain that an
            exception ended the process, it goes to a file of the same name with ``.kept`` added;
            stacks go to one with ``.stacks`` added.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self._main_thread = _thread.get_ident()
        self._is_written = False
        self._records = 0
        self._exit_record = ""
        self._is_noting = False
        self._spare: bytes | None = bytes(_SPARE_BYTES)
        self._stacks_fd = -1
        self.offer_fd = -1
        self._excepthook: Callable[..., object] = sys.__excepthook__
        self._thread_excepthook: Callable[..., object] = _thread._excepthook
        self._exit: Any = sys.exit

    def hook_exceptions(self) -> None:
        """Stand before the hooks of Python; a hook of the user's stays where it is."""
        hook, thread_hook = self.excepthook, self.thread_excepthook
        if sys.excepthook is self._excepthook:
            sys.excepthook = hook
        sys.__excepthook__ = hook
        _thread._excepthook = thread_hook
        if (threading := sys.modules.get("threading")) is not None:
            for name in ("excepthook", "__excepthook__"):
                if getattr(threading, name, None) is self._thread_excepthook:
                    setattr(threading, name, thread_hook)
        atexit.register(self.at_end)

    def hook_exit(self) -> None:
        """Stand before ``sys.exit``, and the ``exit`` and ``quit`` that ``site`` has made.

        The first is a class that creates nothing, since its ``__init__`` is Python's own function:
        so no frame of ours is in the traceback of the SystemExit that it raises.
        """

        def note(cls: type, status: "Any" = None, /) -> "Any":
            self._note_exit(status)
            return object.__new__(cls)

        names = {"__new__": note, "__init__": self._exit, "__doc__": self._exit.__doc__}
        sys.exit = type("exit", (), {**names, "__module__": "sys"})
        if (builtins := sys.modules.get("_sitebuiltins")) is not None:
            leave = builtins.Quitter.__call__

            def note_first(quitter: "Any", code: "Any" = None) -> "Any":
                self._note_exit(code)
                return leave(quitter, code)

            builtins.Quitter.__call__ = note_first

    def hook_crashes(self) -> None:
        """Let a fatal signal write stacks, unless the user has seen to that."""
        import faulthandler  # built in

        if faulthandler.is_enabled():
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(f"{self._path}.stacks", flags, 0o600)
            number = min(os.sysconf("SC_OPEN_MAX"), _MOST_USUAL_FDS) - 1
            self._stacks_fd = os.dup2(fd, number, inheritable=False)
            os.close(fd)
            faulthandler.enable(self._stacks_fd)
        except (OSError, RuntimeError):
            return

    def excepthook(
        self,
        kind: "type[BaseException]",
        error: BaseException,
        trace: "TracebackType | None",
        /,
    ) -> None:
        """Keep an exception, and let Python print it."""
        if self._has_ended_main_thread():
            self._keep_error(error)
        else:
            self._keep_candidate(error)
        self._excepthook(kind, error, trace)

    def thread_excepthook(self, args: "Any", /) -> None:
        """Keep an exception of another thread, and let Python print it."""
        if args.exc_type is not SystemExit:
            self._keep_candidate(args.exc_value, getattr(args.thread, "name", ""))
        self._thread_excepthook(args)

    def at_end(self) -> None:
        """Keep what none of the hooks has seen."""
        if os.getpid() != self._pid:
            return
        if sys.excepthook is not sys.__excepthook__ and not self._is_written:
            error = getattr(sys, "last_value", None)
            if error is not None:
                self._keep_error(error)
        if self._exit_record:
            self._write(f"{self._path}.kept", lambda _: self._exit_record)
        try:
            if self._stacks_fd >= 0 and os.fstat(self._stacks_fd).st_size == 0:
                os.unlink(f"{self._path}.stacks")
        except OSError:
            return

    def _has_ended_main_thread(self) -> bool:
        """Return whether Python itself has called a hook, after the main thread's last frame.

        A program may call ``sys.excepthook`` to show an exception, and go on.
        """
        if _thread.get_ident() != self._main_thread:
            return False
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
        return frame.f_code.co_name not in _BOTTOMS

    def _note_exit(self, status: "Any") -> None:
        """Keep why the program is about to leave: its text, or the exception that it handles.

        The record is made at once. A reference to the exception would keep all objects of its
        frames alive until the end of the process.
        """
        if self._is_noting or _thread.get_ident() != self._main_thread:
            return
        self._exit_record = ""
        if status is None or os.getpid() != self._pid:
            return
        self._is_noting = True
        try:
            if isinstance(status, int) and not status:
                return
            error, remark = _reason_to_exit(status, sys._getframe(2))
            if error is not None:
                self._exit_record = _last_words()["record_of"](error, remark)
        except BaseException:  # noqa: BLE001  the process ends as it would without us
            return
        finally:
            self._is_noting = False

    def _keep_error(self, error: BaseException) -> None:
        if not os.path.lexists(self._path):  # of `@record`
            self._write(self._path, lambda words: words["record_of"](error))
        self._is_written = True

    def _keep_candidate(self, error: BaseException, thread_name: str = "") -> None:
        remark = f"in thread {thread_name[:_NAME_CHARS]!r}" if thread_name else ""
        self._records += 1
        if self._records <= _MOST_RECORDS:
            self._write(f"{self._path}.kept", lambda words: words["record_of"](error, remark))

    def _write(self, path: str, make: "Callable[[dict[str, Any]], str]") -> None:
        if os.getpid() != self._pid:
            return
        self._spare = None
        for _ in range(_ATTEMPTS):
            problem = _try_to_write(path, make)
            if problem is None:
                return
            if isinstance(problem, OSError) and problem.errno == _NO_DESCRIPTORS:
                self._free_descriptor()

    def _free_descriptor(self) -> None:
        """Give the pipe for stacks back: a program that has used up its descriptors needs one."""
        if self.offer_fd >= 0:
            import faulthandler  # built in

            faulthandler.unregister(_STACK_SIGNAL)
            os.close(self.offer_fd)
            self.offer_fd = -1


def _reason_to_exit(status: "Any", caller: "FrameType") -> "tuple[BaseException | None, str]":
    """Return what makes a program call ``sys.exit``, and a remark about it.

    Args:
        status: What ``sys.exit`` was given.
        caller: The frame that calls it.
    """
    error = sys.exc_info()[1]
    for _ in range(_MOST_EXITS):  # one leads to the next
        if not isinstance(error, SystemExit):
            break
        error = error.__context__
    if not isinstance(status, int):
        leaving = SystemExit(status)
        leaving.__context__ = error
        return leaving, ""
    if error is not None and not isinstance(error, SystemExit):
        return error, f"handled, then exit({status})"
    if caller.f_code.co_name == "exit":  # of argparse and optparse, which print the text themselves
        names = caller.f_locals
        text = names.get("message", names.get("msg"))
        if isinstance(text, str) and text.strip():
            return SystemExit(text.strip()), ""
    return None, ""


def _last_words() -> "dict[str, Any]":
    return _load(os.path.join(_FOLDER, "last_words.py"))


def _try_to_write(path: str, make: "Callable[[dict[str, Any]], str]") -> "BaseException | None":
    try:
        words = _last_words()
        words["write_record"](path, make(words))
    except BaseException as problem:  # noqa: BLE001  the process ends as it would without us
        return problem
    return None


_problem = _begin()
if _problem is not None:
    raise _problem
