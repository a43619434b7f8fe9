"""What the kernel can do for the children of a process that dies: Linux's ``prctl``.

A process can ask to be killed when its parent dies, and a parent can ask to adopt whatever its
descendants leave behind.
"""

from __future__ import annotations

import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


class OrphanAdoption:
    """Lets a process adopt its orphaned descendants as long as anybody holds it.

    A process adopts or it does not, whoever in it asked: two agents in two threads share this one.

    Attributes:
        is_of_agent_alone: Whether the process is elrun's command, and so has no children but an
            agent's. In a user's program nothing tells a child of the program's from an orphan.
    """

    def __init__(self) -> None:
        self.is_of_agent_alone = False
        self._lock = threading.Lock()
        self._holders = 0
        self._adopted_before = False

    @staticmethod
    def of_this_process() -> OrphanAdoption:
        """Return the one that everybody in this process shares."""
        # A forked child adopts for nobody, and a lock that it inherits may be held for ever.
        return _ADOPTIONS.setdefault(os.getpid(), OrphanAdoption())

    def hold(self) -> None:
        """Begin to adopt, unless somebody holds it already."""
        with self._lock:
            if self._holders == 0:
                self._adopted_before = set_subreaper(on=True)
            self._holders += 1

    def release(self) -> None:
        """Let go of it; the last to do so leaves the process as the first has found it."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and not self._adopted_before:
                set_subreaper(on=False)


# By process id. What is counted belongs to the process, not to an object of ours.
_ADOPTIONS: dict[int, OrphanAdoption] = {}


def death_signal_for_children() -> Callable[[], None]:
    """Return what a child calls, right after the fork, to be killed when this process dies.

    The kernel watches the thread that forked, not its process. A child of any thread but the main
    one is therefore left alone: it would die with a thread that merely returned.
    """
    if threading.get_native_id() != os.getpid():
        return _leave_alone
    prctl, parent, sigkill = _load_prctl(), os.getpid(), int(signal.SIGKILL)

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, sigkill, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(128 + sigkill)

    return die_with_parent


def die_with_parent(parent: int) -> None:
    """Let this process be killed when its parent dies.

    Args:
        parent: Process id of the parent; where it isn't the parent any more, the process ends here.
    """
    _load_prctl()(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def continue_at_parents_death() -> Callable[[], None]:
    """Return what a child calls, right after the fork, to be continued when this process dies.

    Nobody else continues a process that was suspended: the kernel does so only where a process
    group becomes an orphan by that death, and a session of its own is one already.
    """
    prctl, sigcont = _load_prctl(), int(signal.SIGCONT)

    def be_continued() -> None:
        prctl(_PR_SET_PDEATHSIG, sigcont, 0, 0, 0)

    return be_continued


def set_subreaper(*, on: bool) -> bool:
    """Let this process adopt its orphaned descendants, or not any more; return what was before."""
    from .libc import Int, byref

    prctl = _load_prctl()
    before = Int(0)
    prctl(_PR_GET_CHILD_SUBREAPER, byref(before), 0, 0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return bool(before.value)


def process_namer(name: str) -> Callable[[], None]:
    """Return what a child calls, after the fork, to be shown by ``ps`` and ``top`` under a name.

    Args:
        name: The name, of which 15 bytes count.
    """
    text = name.encode()[:15]
    prctl = _load_prctl()

    def take_name() -> None:
        prctl(_PR_SET_NAME, text, 0, 0, 0)

    return take_name


def _load_prctl() -> Callable[..., int]:
    from .libc import libc_function  # `--help` needs none

    return libc_function("prctl")


def _leave_alone() -> None:
    pass
