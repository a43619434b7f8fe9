"""Says why a signal killed a worker, from what the kernel tells of it.

``gather`` asks the kernel; ``explain`` decides on the words, and is a function of values.
"""

from __future__ import annotations

import os
import signal

from ...rendezvous.named_tuple import NamedTuple
from ..system.process_states import END_SIGNAL, GROUP_SIGNAL, signals_in
from .failure import signal_name
from .kernel_log import gpu_faults, lines_about
from .limits import Limits, limits_of
from .memory_events import KernelWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    from .late_re import re

SHARED_MEMORY = "/dev/shm"
GPU_DRIVER = "/proc/driver/nvidia"
_FULL_BELOW_BYTES = 1 << 20
_MOST_CHARS = 500
_CLOCKS_DIFFER_S = 0.2
"""CPU time is counted in ticks."""

_KIB, _STEP = 1024, 1024.0
_FRACTIONS_BELOW = 1000

_SHELL = 128
_SIGNALS_OF_SHELLS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS),
    *(signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM),
)
_NOT_FLUSHED = 120
"""Python's exit code where it can't write what its standard streams still hold."""

_SENT_FROM_OUTSIDE = "another process sent the signal, or the worker itself did: elrun did not"

_MEANINGS: dict[int, str] = {
    signal.SIGPIPE: "it wrote to a pipe or a socket that nobody reads any more",
    signal.SIGSYS: "a seccomp filter of its container or sandbox forbids a system call it made",
    signal.SIGALRM: "a timer that it had set itself ran out (alarm)",
}


class SignalFacts(NamedTuple):
    """What the kernel tells of a worker that failed.

    Args:
        exitcode: Its exit code; -n where signal n killed it.
        oom_kills: Processes that were killed for want of memory meanwhile; None: not known.
        is_of_cgroup: Whether that is the count of elrun's cgroup, not of the whole host.
        memory_limit: The cgroup's limit in bytes, if it has one.
        memory_peak: The most memory that the cgroup has held, in bytes, if it is known.
        log: What the kernel's log has of this process, line by line.
        gpu_faults: What the kernel's log has of GPUs, line by line.
        limits: What the process was allowed, and the CPU time that it has used.
        shared_memory: Size and free space of ``/dev/shm`` in bytes, if it is there.
        core: Path of the core file, if there is one.
        has_script_ended: Whether it is a Python worker whose script had ended before.
        has_open_group: Whether that script has left its process group of torch open.
    """

    exitcode: int
    oom_kills: int | None = None
    is_of_cgroup: bool = False
    memory_limit: int | None = None
    memory_peak: int | None = None
    log: tuple[str, ...] = ()
    gpu_faults: tuple[str, ...] = ()
    limits: Limits = Limits()
    shared_memory: tuple[int, int] | None = None
    core: str = ""
    has_script_ended: bool = False
    has_open_group: bool = False


def explain(facts: SignalFacts) -> str:
    """Return why a worker died as far as the kernel knows, in one line; empty: nothing is known."""
    parts = [_why(facts), _when(facts)]
    if facts.exitcode < 0 and facts.core:
        parts.append(f"core file: {facts.core}")
    parts += [f"a GPU reported a fault: {line}" for line in facts.gpu_faults[:1]]
    return "; ".join(filter(None, parts))[:_MOST_CHARS]


def _when(facts: SignalFacts) -> str:
    """Say that a script had done its work when its interpreter failed, if that is so."""
    if not facts.has_script_ended:
        return ""
    if facts.exitcode == _NOT_FLUSHED:
        return (
            "its script had ended before, but what was left to print could not be written to "
            "standard output or standard error"
        )
    # Python ends itself by SIGINT after a KeyboardInterrupt that nothing has caught.
    if facts.exitcode >= 0 or facts.exitcode == -signal.SIGINT:
        return ""
    ended = "its script had ended before, and the interpreter was shutting down"
    if facts.has_open_group:
        return f"{ended}; the script had not called torch.distributed.destroy_process_group()"
    return ended


def _why(facts: SignalFacts) -> str:
    if facts.exitcode == -signal.SIGKILL:
        return _why_killed(facts)
    if facts.oom_kills:
        killed = "a process" if facts.oom_kills == 1 else f"{facts.oom_kills} processes"
        return f"memory ran out meanwhile: the kernel killed {killed} of {_where(facts)}"
    match -facts.exitcode:
        case number if number < 0:
            return _why_of_shell(facts.exitcode)
        case 0 | signal.SIGABRT:
            return ""
        case signal.SIGXCPU:
            if facts.limits.cpu_s is None:
                return _SENT_FROM_OUTSIDE
            # The kernel raises the limit by a second when it sends the signal.
            return f"it has used up its CPU time: {facts.limits.cpu_s - 1} s (ulimit -t)"
        case signal.SIGXFSZ:
            size = facts.limits.file_bytes
            limit = "" if size is None else f": {in_bytes(size)}"
            return f"a file got larger than a file may get{limit} (ulimit -f)"
        case signal.SIGBUS:
            return _why_bus_error(facts)
        case signal.SIGSEGV | signal.SIGFPE | signal.SIGILL | signal.SIGTRAP:
            return f"the kernel's log: {facts.log[-1]}" if facts.log else ""
        case number:
            return _MEANINGS.get(number, _SENT_FROM_OUTSIDE)


def _why_of_shell(exitcode: int) -> str:
    """Say which signal an exit code stands for that a shell has passed on."""
    if exitcode - _SHELL not in _SIGNALS_OF_SHELLS:
        return ""
    name = signal_name(_SHELL - exitcode)
    return f"{exitcode} is 128 + {exitcode - _SHELL}: so shells tell that {name} ended a program"


def _why_killed(facts: SignalFacts) -> str:
    held = next(filter(None, map(_held_by_killed, facts.log)), None)
    if facts.oom_kills or held:
        what = f", when it held {in_bytes(held)}" if held else ""
        return f"memory ran out: the kernel killed it{what} ({_where(facts)})"
    most_s = facts.limits.cpu_hard_s
    if most_s is not None and facts.limits.cpu_used_s > most_s - _CLOCKS_DIFFER_S:
        return f"it has used up its CPU time: {most_s} s (ulimit -t)"
    if facts.oom_kills is None:
        return "elrun did not send it; the kernel does when memory runs out (see dmesg)"
    return (
        "another process sent SIGKILL, or the worker itself: memory did not run out in "
        f"{_where(facts)}"
    )


def _where(facts: SignalFacts) -> str:
    if not facts.is_of_cgroup:
        return "this host"
    figures = []
    if facts.memory_limit is not None:
        figures.append(f"limit {in_bytes(facts.memory_limit)}")
    if facts.memory_peak is not None and facts.memory_limit is not None:  # it is of all times
        figures.append(f"peak {in_bytes(facts.memory_peak)}")
    return "elrun's cgroup" + "".join(f", {figure}" for figure in figures)


def _why_bus_error(facts: SignalFacts) -> str:
    if facts.shared_memory is not None:
        size, free = facts.shared_memory
        if free < _FULL_BELOW_BYTES:
            return f"{SHARED_MEMORY} is full ({in_bytes(size)}): enlarge it (docker: --shm-size)"
        return (
            "a file that it had mapped into memory was cut short, or its file system was full "
            f"({SHARED_MEMORY} has {in_bytes(size)}, of which {in_bytes(free)} are free now)"
        )
    return "a file that it had mapped into memory was cut short, or its file system was full"


def _held_by_killed(line: str) -> int | None:
    """Return the bytes of memory that a killed process held, from the kernel's line about it."""
    if "Killed process" not in line:
        return None
    figures = re.findall(r"(?:anon|shmem)-rss:(\d+)kB", line)
    return sum(map(int, figures)) * _KIB or None


def in_bytes(count: int) -> str:
    """Return a number of bytes for people: ``512 MiB``, ``1.5 GiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < _STEP:
            return f"{size:.3g} {unit}" if size < _FRACTIONS_BELOW else f"{size:.0f} {unit}"
        size /= _STEP
    return f"{size:.4g} TiB"


def gather(exitcode: int, pid: int, kernel: KernelWatch) -> SignalFacts:
    """Ask the kernel about a worker that has failed.

    Args:
        exitcode: Its exit code; -n where signal n killed it.
        pid: Its process id.
        kernel: What the kernel has counted and logged since its attempt began.
    """
    # Not where it can't have anything.
    is_of_use = exitcode < 0 or os.path.isdir(GPU_DRIVER)
    records = kernel.log.records() if is_of_use else []
    before = kernel.counts
    ignored = signals_in(pid, b"SigIgn:")
    return SignalFacts(
        exitcode=exitcode,
        oom_kills=before.kills_since(),
        is_of_cgroup=before.is_of_cgroup,
        memory_limit=before.limit_bytes(),
        memory_peak=before.peak_bytes(),
        log=tuple(lines_about(pid, records)),
        gpu_faults=tuple(gpu_faults(records)),
        limits=limits_of(pid),
        shared_memory=room_in(SHARED_MEMORY),
        core=_core_of(pid) if exitcode < 0 else "",
        has_script_ended=END_SIGNAL in ignored,
        has_open_group=GROUP_SIGNAL in ignored,
    )


def room_in(path: str) -> tuple[int, int] | None:
    """Return size and free space of a file system in bytes; None: it is not there."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _core_of(pid: int, pattern_file: str = "/proc/sys/kernel/core_pattern") -> str:
    """Return the path of a core file that the kernel wrote for a process, or "" if there is none.

    It lies in the worker's working directory, which is elrun's unless the worker has changed it.
    """
    try:
        with open(pattern_file, encoding="utf-8", errors="surrogateescape") as file:
            pattern = file.read().strip()
        with open("/proc/sys/kernel/core_uses_pid", encoding="utf-8") as file:
            uses_pid = file.read().strip() != "0"
    except OSError:
        return ""
    if not pattern or pattern.startswith("|"):
        return ""
    has_pid = "%p" in pattern or "%P" in pattern
    path = pattern.replace("%p", str(pid)).replace("%P", str(pid))
    if uses_pid and not has_pid:
        path, has_pid = f"{path}.{pid}", True
    path = os.path.abspath(path)
    # Without a process id in its name it may be of another process, of another day.
    return path if has_pid and "%" not in path and os.path.isfile(path) else ""
