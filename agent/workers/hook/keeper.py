# ruff: noqa: SLF001  it is loaded by its path, see sitecustomize.py; hooks of threads and
# frames have no public names

"""Keeps what ends a Python worker for its agent; ``sitecustomize.py`` says what and how.

No library is imported at the start, for that costs; ``last_words.py`` and ``record_file.py`` are
loaded when there is something to write.
"""

import _thread
import atexit
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST_RECORDS = 20
"""How many exceptions are written that may be harmless: a server may lose a thread a second."""

_ATTEMPTS = 3
"""How often a record is tried: a handler of signals may raise in the midst of it. That of torch's
DataLoader does so when one of its processes has died."""

_SPARE_BYTES = 1 << 21
"""Address space that is given back before an exception is written, which may be a MemoryError. The
kernel gives no memory for it, since nothing is ever written there."""

_NAME_CHARS = 100

_END_SIGNAL, _GROUP_SIGNAL = 61, 60
"""Signals that nobody sends: see the agent's ``system/process_states.py``."""

_NO_DESCRIPTORS = 24
"""EMFILE: the module ``errno`` would have to be loaded."""

_SECONDS_TOGETHER = 60
"""Exceptions of threads that come within this time are taken for consequences of the first."""

_MOST_YOUNG_OBJECTS = 1 << 18
"""Of so many, one is looked for: a script may have turned the garbage collector off."""

_BOTTOMS = ("<module>", "_run_module_as_main")
"""Code at the bottom of the stack while a program runs; none is there when it has ended."""


def begin(path: str, load: "Callable[[str], dict[str, Any]]") -> None:
    """Keep what ends this process from now on.

    Args:
        path: The worker's error file.
        load: Runs a file of this folder, and returns its names.
    """
    stacks = load("crash_stacks.py")["Stacks"](f"{path}.stacks")
    keeper = _Keeper(path, load, stacks)
    keeper.hook_exceptions()
    keeper.hook_exit()
    stacks.begin()


class _Keeper:
    """Writes what ends this process, and nothing where a child forked from it ends.

    Args:
        path: The worker's error file: what ended the main thread. Where it is not certain that an
            exception ended the process, it goes to a file of the same name with ``.kept`` added.
        load: Runs a file of this folder, and returns its names.
        stacks: What ``crash_stacks.py`` does for this process.
    """

    def __init__(self, path: str, load: "Callable[[str], dict[str, Any]]", stacks: "Any") -> None:
        self._path = path
        self._load = load
        self._stacks = stacks
        self._pid = os.getpid()
        self._main_thread = _thread.get_ident()
        self._is_written = False
        self._records = 0
        self._exit_note: tuple[Any, ...] = ()
        self._has_left = False
        self._lost_thread = ""
        self._lost_at_s = 0.0
        self._left_thread = ""
        self._exit_status: Any = None
        self._handled_at_exit: Any = None
        self._is_noting = False
        self._spare: bytes | None = bytes(_SPARE_BYTES)
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
        _stand_before_code(self._note_leaving)
        self._hook_exit_at_once()

    def _hook_exit_at_once(self) -> None:
        """Stand before ``os._exit``, which runs none of the functions for the end."""
        exit_at_once = os._exit

        def _exit(status: int) -> "Any":
            if status and os.getpid() == self._pid:
                self._keep_reason(status, sys._getframe().f_back)  # None: C has called this
            return exit_at_once(status)

        os._exit = _exit

    def excepthook(self, kind: "Any", error: BaseException, trace: "Any", /) -> None:
        """Keep an exception, and let Python print it."""
        if self._has_ended_main_thread():
            self._keep_error(error)
        else:
            self._keep_candidate(error)
        self._excepthook(kind, error, trace)

    def thread_excepthook(self, args: "Any", /) -> None:
        """Keep an exception of another thread, and let Python print it."""
        error, thread = args.exc_value, getattr(args.thread, "name", "")
        if args.exc_type is not SystemExit:
            self._keep_candidate(error, thread)
        elif not isinstance(getattr(error, "code", None), (int, type(None))):
            self._note_left_thread(error, thread)
        self._thread_excepthook(args)

    def at_end(self) -> None:
        """Keep what none of the hooks has seen."""
        if os.getpid() != self._pid:
            return
        if sys.excepthook is not sys.__excepthook__ and not self._is_written:
            error = getattr(sys, "last_value", None)
            if error is not None:
                self._keep_error(error)
        note = self._exit_note
        if note and (note[0] or not self._records):  # else a thread's exception tells why
            before = self._before
            self._write(f"{self._path}.kept", lambda words: words["record_of_note"](note, before))
        _mark_end()
        self._stacks.end()

    def _has_ended_main_thread(self, *others: str) -> bool:
        """Return whether Python itself has called a function, after the main thread's last frame.

        A program may call ``sys.excepthook`` to show an exception, and go on.

        Args:
            others: Functions of Python's whose calls do not count.
        """
        if _thread.get_ident() != self._main_thread:
            return False
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
        return frame.f_code.co_name not in (*_BOTTOMS, *others)

    def _note_exit(self, status: "Any") -> None:
        """Keep why the program is about to leave: its text, or the exception that it handles.

        The record is made at once. A reference to the exception would keep all objects of its
        frames alive until the end of the process.
        """
        self._note(status, sys.exc_info()[1], sys._getframe(1).f_back)

    def _note_leaving(self, status: "Any", leaving: SystemExit) -> None:
        """Keep why a program has left by an exception of its own: ``raise SystemExit(1)``."""
        self._has_left = True
        is_of_exit = _mark_of(leaving.__context__) == self._handled_at_exit
        if status is not self._exit_status or not is_of_exit:  # else ``sys.exit`` has raised it
            error = leaving.__cause__ or leaving.__context__
            self._note(status, error, None, leaving)

    def _note(
        self,
        status: "Any",
        error: "BaseException | None",
        caller: "Any",
        leaving: "SystemExit | None" = None,
    ) -> None:
        if self._is_noting or _thread.get_ident() != self._main_thread:
            return
        self._exit_note = ()
        self._exit_status, self._handled_at_exit = status, _mark_of(error)
        if status is None or os.getpid() != self._pid:
            return
        self._is_noting = True
        try:
            if not isinstance(status, int) or status:
                words = self._load("last_words.py")
                trace = None if leaving is None else _trace_of(leaving)
                self._exit_note = words["note_of_exit"](status, error, caller, trace)
        except BaseException:  # noqa: BLE001, S110  the process ends as it would without us
            pass
        finally:
            self._is_noting = False

    def _keep_reason(self, status: int, caller: "Any") -> None:
        """Keep why a program ends at once: what it handles, or what Python has it show."""
        last = getattr(sys, "last_value", None)
        if last is not None and self._has_ended_main_thread():
            self._keep_error(last)
            return
        error, wanted = sys.exc_info()[1], self._exit_status
        # Else what was noted was caught, maybe long ago.
        is_exit = isinstance(error, SystemExit) or self._has_left
        is_noted = is_exit and status == (wanted if isinstance(wanted, int) else 1)  # 1: of a text
        noted, before, where = self._exit_note if is_noted else (), self._before, self._where()

        def make(words: "dict[str, Any]") -> str:
            note = words["note_of_end_at_once"](status, error, caller, where)
            if noted and not note[0]:
                note = noted
            if self._records and not note[0]:  # a thread's exception tells why
                return ""
            record: str = words["record_of_note"](note, before)
            return record

        self._write(f"{self._path}.kept", make)

    def _where(self) -> str:
        """Return which thread runs, or that ``atexit`` has called what runs; else nothing."""
        if _thread.get_ident() != self._main_thread:
            return f" in {_thread_here()}"
        is_at_exit = not sys.is_finalizing() and self._has_ended_main_thread("_shutdown")
        return " from atexit" if is_at_exit else ""

    def _keep_error(self, error: BaseException) -> None:
        if not os.path.lexists(self._path):  # of `@record`
            before = self._before
            self._write(self._path, lambda words: words["record_of"](error, before=before))
        self._is_written = True

    def _keep_candidate(self, error: BaseException, thread_name: str = "") -> None:
        thread = f"thread {thread_name[:_NAME_CHARS]!r}" if thread_name else ""
        self._records += 1
        if self._records > _MOST_RECORDS:
            return

        import time  # built in

        now_s = time.monotonic()
        is_consequence = self._lost_thread and now_s - self._lost_at_s < _SECONDS_TOGETHER
        before = self._lost_thread if is_consequence else self._left_thread

        def make(words: "dict[str, Any]") -> str:
            if thread and not is_consequence:
                self._lost_thread, self._lost_at_s = words["end_of_thread"](error, thread), now_s
            remark = f"in {thread}" if thread else ""
            record: str = words["record_of"](error, remark, before)
            return record

        self._write(f"{self._path}.kept", make)

    @property
    def _before(self) -> str:
        """Which thread had ended before, of an exception rather than of ``sys.exit``."""
        return self._lost_thread or self._left_thread

    def _note_left_thread(self, error: BaseException, thread_name: str) -> None:
        """Note that a thread ended itself with a text; Python drops it: all may be in order."""
        if self._left_thread or os.getpid() != self._pid:
            return
        try:
            words = self._load("last_words.py")
            self._left_thread = words["end_of_thread"](error, _thread_called(thread_name))
        except BaseException:  # noqa: BLE001  the thread ends as it would without us
            return

    def _write(self, path: str, make: "Callable[[dict[str, Any]], str]") -> None:
        if os.getpid() != self._pid:
            return
        self._spare = None
        for _ in range(_ATTEMPTS):
            try:
                if record := make(self._load("last_words.py")):
                    self._load("record_file.py")["write_record_in_time"](path, record)
                return
            except BaseException as problem:  # noqa: BLE001  the process ends as it would without us
                if isinstance(problem, OSError) and problem.errno == _NO_DESCRIPTORS:
                    self._stacks.free_descriptor()


def _thread_here() -> str:
    """Return what people call the thread that runs."""
    threads = getattr(sys.modules.get("threading"), "_active", {})
    return _thread_called(getattr(threads.get(_thread.get_ident()), "name", ""))


def _thread_called(name: str) -> str:
    return f"thread {name[:_NAME_CHARS]!r}" if name else "a thread"


def _mark_of(error: "BaseException | None") -> "Any":
    """Return what tells an exception from others, and keeps none of its frames alive.

    Its address alone does not tell: a later exception may get the same one.
    """
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = () if trace is None else (trace.tb_frame.f_code, trace.tb_lineno)
    return id(error), type(error), *place


def _trace_of(leaving: SystemExit) -> "Any":
    """Return the frames that an exception has ended which nothing has caught; None: not known.

    Before Python 3.12 it does not know them itself. Its traceback is the one that was made last.
    """
    if leaving.__traceback__ is not None or sys.version_info >= (3, 12):
        return leaving.__traceback__
    import gc  # built in

    if gc.get_count()[0] > _MOST_YOUNG_OBJECTS:
        return None
    for generation in (0, 1):
        for each in reversed(gc.get_objects(generation)):
            if type(each).__name__ == "traceback":
                frame = each.tb_frame
                is_of_all = frame.f_back is None and frame.f_code.co_name in _BOTTOMS
                return each if is_of_all else None
    return None


def _stand_before_code(note: "Callable[[Any, SystemExit], None]") -> None:
    import gc  # built in

    for names in gc.get_referents(SystemExit.__dict__)[:1]:
        if type(names) is dict and "code" in names:
            names["code"] = _Code(names["code"], note)


class _Code:
    """Stands for ``SystemExit.code``, which Python reads when one has ended the main thread.

    That is all that Python does then: it calls no hook, and drops the exception. No frame is left
    at that moment, as there is at each other use.
    """

    def __init__(self, member: "Any", note: "Callable[[Any, SystemExit], None]") -> None:
        self._member = member
        self._note = note

    def __get__(self, leaving: "SystemExit | None", kind: "type | None" = None) -> "Any":
        if leaving is None:
            return self._member
        status = self._member.__get__(leaving)
        if sys._getframe().f_back is None:
            self._note(status, leaving)
        return status

    def __set__(self, leaving: SystemExit, status: "Any") -> None:
        self._member.__set__(leaving, status)

    def __delete__(self, leaving: SystemExit) -> None:
        self._member.__delete__(leaving)


def _mark_end() -> None:
    import _signal  # type: ignore[import-not-found]  # built in; `signal` would load `enum`

    try:
        _signal.signal(_END_SIGNAL, _signal.SIG_IGN)
        group = sys.modules.get("torch.distributed")
        if group is not None and group.is_initialized():
            _signal.signal(_GROUP_SIGNAL, _signal.SIG_IGN)
    except BaseException:  # noqa: BLE001  of torch, or of a handler of signals
        return
