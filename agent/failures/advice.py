"""Says in one sentence what lies behind an exception, where that is certain.

The machine knows more than the exception's text: who holds the port, which file system is full,
what a limit is, how many GPUs there are. ``topic_of`` finds out what an exception is about, and
``advise`` makes a sentence of what the machine says about that topic (`machine_facts.py` asks it).
An exception's words are the only sign of its kind: nothing but this sentence depends on them.
"""

from __future__ import annotations

import enum
import re

from ...rendezvous.named_tuple import NamedTuple
from .limits import Limits
from .signal_cause import SHARED_MEMORY, in_bytes


class Topic(enum.Enum):
    """What an exception is about."""

    PORT = "a port that is taken"
    DISK = "a disk that is full"
    SHARED_MEMORY = "shared memory that is used up"
    FILE_SIZE = "the limit of a file's size"
    OPEN_FILES = "the limit of open files"
    THREADS = "the limit of processes and threads"
    ADDRESS_SPACE = "the limit of a process's memory"
    LOCKED_MEMORY = "the limit of locked memory"
    GPU_MEMORY = "a GPU's memory"
    GPU_NUMBER = "a GPU that isn't there"
    NO_CUDA = "a torch without CUDA"
    CLOCK = "a certificate that is not valid yet"


# The first pattern that fits counts.
_SIGNS: tuple[tuple[Topic, str], ...] = (
    (Topic.PORT, r"address already in use|\bEADDRINUSE\b"),
    (
        Topic.SHARED_MEMORY,
        (
            r"unable to (?:allocate|write|resize|open|mmap)[^\n]{0,60}(?:shared memory|</torch_)"
            r"|insufficient shared memory|/dev/shm/"
        ),
    ),
    (
        Topic.DISK,
        (
            r"\[Errno 28\]|no space left on device|\bENOSPC\b|inline_container|iostream error"
            r"|PytorchStreamWriter failed"
        ),
    ),
    (Topic.FILE_SIZE, r"\[Errno 27\]|\bEFBIG\b"),
    (Topic.OPEN_FILES, r"\[Errno (?:23|24)\]|too many open files|\bEMFILE\b"),
    (Topic.THREADS, r"can't start new thread|\[Errno 11\] resource temporarily unavailable"),
    (Topic.LOCKED_MEMORY, r"\bibv_\w+[^\n]*cannot allocate memory|ulimit -l"),
    (Topic.GPU_MEMORY, r"CUDA out of memory|HIP out of memory|\bOutOfMemoryError\b"),
    (Topic.ADDRESS_SPACE, r"\bMemoryError\b|\[Errno 12\]|DefaultCPUAllocator: can't allocate"),
    (Topic.GPU_NUMBER, r"invalid device ordinal|no CUDA GPUs are available|invalid device id"),
    (Topic.NO_CUDA, r"_cuda_setDevice|_cuda_getDevice|Torch not compiled with CUDA enabled"),
    (Topic.CLOCK, r"certificate is not yet valid"),
)
_PORT = re.compile(r"port:? (\d{1,5})\b|', (\d{1,5})[),]|[\w\]]:(\d{1,5})\b(?!:\d)", re.IGNORECASE)
_HELD_BY = re.compile(r"Process (\d+) has ([\d.]+ [KMG]iB) memory in use")
_FEW_THREADS = 20_000


class MachineFacts(NamedTuple):
    """What the machine says about one topic; what does not belong to the topic is left empty.

    Args:
        limits: What the process was allowed.
        port_holder: What listens there.
        full_disks: File systems without room: path, size in bytes (0: it has no inodes left).
        shared_memory: Size and free space of ``/dev/shm``.
        gpus: How many GPUs a worker could see; None: not known.
        gpu_choice: The variable that hides GPUs, with its value; empty: there is none.
        gpu_holder: The other process that holds most of the GPU's memory, and how much.
        now: The node's date and time.
    """

    limits: Limits = Limits()
    port: int = 0
    port_holder: str = ""
    full_disks: tuple[tuple[str, int], ...] = ()
    shared_memory: tuple[int, int] | None = None
    gpus: int | None = None
    gpu_choice: str = ""
    gpu_holder: str = ""
    now: str = ""


def topic_of(words: str) -> Topic | None:
    """Return what an exception is about, if that is one of the things a machine can tell more of.

    Args:
        words: Type and text of the exception, and of its causes.
    """
    for topic, pattern in _SIGNS:
        if re.search(pattern, words, re.IGNORECASE):
            return topic
    return None


def port_in(words: str) -> int:
    """Return the port that an exception names; 0: none."""
    found = _PORT.search(words)
    number = int(next(filter(None, found.groups()))) if found else 0
    return number if 0 < number < 1 << 16 else 0


def gpu_holder_in(words: str, pid: int) -> tuple[int, str]:
    """Return the process besides one that holds most of a GPU, as torch says; 0: there is none."""
    held = [(int(each), size) for each, size in _HELD_BY.findall(words) if int(each) != pid]
    return max(held, key=lambda each: _bytes_of(each[1]), default=(0, ""))


def _bytes_of(size: str) -> float:
    number, unit = size.split()
    return float(number) * float(1024 ** "KMG".index(unit[0]))


def advise(topic: Topic, facts: MachineFacts) -> str:
    """Return what the machine says about an exception, in one sentence; empty: nothing certain."""
    match topic:
        case Topic.PORT:
            return facts.port_holder and f"port {facts.port} is taken by {facts.port_holder}"
        case Topic.DISK:
            return _about_disks(facts.full_disks)
        case Topic.SHARED_MEMORY:
            return _about_shared_memory(facts.shared_memory)
        case Topic.GPU_MEMORY:
            return facts.gpu_holder and f"another process holds memory of it: {facts.gpu_holder}"
        case Topic.GPU_NUMBER:
            return _about_gpus(facts)
        case Topic.NO_CUDA:
            return "this torch was built without CUDA: it can use no NVIDIA GPU"
        case Topic.CLOCK:
            return f"by the clock of this node it is {facts.now}"
        case _:
            return _about_limit(topic, facts.limits)


def _about_limit(topic: Topic, limits: Limits) -> str:
    match topic:
        case Topic.FILE_SIZE if limits.file_bytes is not None:
            return f"a file may have {in_bytes(limits.file_bytes)} at most (ulimit -f)"
        case Topic.OPEN_FILES if limits.open_files is not None:
            return f"a process may have {limits.open_files} open files at most (ulimit -n)"
        case Topic.THREADS if limits.processes is not None and limits.processes < _FEW_THREADS:
            return f"a user may have {limits.processes} processes and threads at most (ulimit -u)"
        case Topic.ADDRESS_SPACE if limits.address_bytes is not None:
            room = in_bytes(limits.address_bytes)
            return f"a process may have {room} of address space at most (ulimit -v)"
        case Topic.LOCKED_MEMORY if limits.locked_bytes is not None:
            room = in_bytes(limits.locked_bytes)
            return f"a process may lock {room} of memory at most (ulimit -l)"
        case _:
            return ""


def _about_disks(disks: tuple[tuple[str, int], ...]) -> str:
    named = [
        f"{path} ({in_bytes(size)})" if size else f"{path} (it has no inodes left)"
        for path, size in disks[:3]
    ]
    if not named:
        return ""
    verb = "is" if len(named) == 1 else "are"
    return f"{', '.join(named)} {verb} full"


def _about_shared_memory(room: tuple[int, int] | None) -> str:
    if room is None:
        return ""
    size, free = room
    return (
        f"{SHARED_MEMORY} has {in_bytes(size)}, of which {in_bytes(free)} are free now: "
        "enlarge it (docker: --shm-size)"
    )


def _about_gpus(facts: MachineFacts) -> str:
    if facts.gpus is None:
        return ""
    count = {0: "no GPU", 1: "1 GPU"}.get(facts.gpus, f"{facts.gpus} GPUs")
    hidden = f" ({facts.gpu_choice})" if facts.gpu_choice else ""
    return f"a worker of this node sees {count}{hidden}"
