"""Tells what workers and the processes of preloading take: memory by smaps_rollup, and CPU.

    python benchmarks/memory.py

It prints the figures of docs/preloading.md, as MB. They depend on torch, and hardly on the load.
"""

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import proc
from jobs import ELRUN, PRELOADED, workplace
from rows import FailedError, Launcher

_LIMIT_S = 120.0
_LOOK_S = 0.1
_KB_IN_MB = 1.024e-3


def main() -> None:
    """Print all figures."""
    _tell_workers("four workers with torch, executed", ELRUN, 4)
    _tell_workers("four workers with torch, forked", PRELOADED, 4)
    _tell_waiting("torch", 2)
    _tell_waiting("torch,torch._dynamo", 2)


def _tell_workers(what: str, launcher: Launcher, count: int) -> None:
    """Print what each worker stands for, and the process that they were forked from, if any."""
    with workplace() as place:
        place.start(launcher, "hold.py", *_options(count, restarts=0), more=["torch"])
        pids = [note.pid for note in place.notes.wait(count, lambda _: True, _LIMIT_S)]
        workers = [proc.proportional_mb(pid) for pid in pids]
        (agent,) = {_parent_of(pid) for pid in pids}
        servers = [proc.proportional_mb(pid) for pid in _named(agent, "elrun-preload")]
    print(
        f"{what}: {_median(workers)} each (Pss)", *(f"and {mb:.0f} to come from" for mb in servers)
    )


def _tell_waiting(modules: str, count: int) -> None:
    """Print what each waiting worker has alone, and what their origin has that no file has."""
    launcher = Launcher("preloaded", (*ELRUN.program, "--preload", modules))
    with workplace() as place:
        place.start(launcher, "hold.py", *_options(count, restarts=1), more=modules.split(","))
        note, *_ = place.notes.wait(count, lambda _: True, _LIMIT_S)
        agent = _parent_of(note.pid)
        waiting = _await(lambda: _named(agent, "elrun-waiting"), count)
        (server,) = _named(agent, "elrun-preload")
        print(
            f"{count} workers that wait, with {modules}:",
            f"each {_median([_own_mb(pid) for pid in waiting], 1)} of its own (Private_Dirty)",
            f"and {_median([_table_mb(pid) for pid in waiting], 1)} of page tables (VmPTE);",
            f"their origin {_field(server, 'smaps_rollup', 'Anonymous'):.0f} (Anonymous),",
            f"after {proc.scheduled_s(server):.1f} s of CPU",
        )


def _options(workers: int, restarts: int) -> tuple[str, ...]:
    count = ("--nproc-per-node", str(workers), "--max-restarts", str(restarts))
    return ("--standalone", *count)


def _await(look: Callable[[], list[int]], count: int) -> list[int]:
    """Look until there are as many as that."""
    for _ in range(int(_LIMIT_S / _LOOK_S)):
        if len(found := look()) >= count:
            return found
        time.sleep(_LOOK_S)
    raise FailedError(f"{len(look())} of {count} wait")


def _named(agent: int, name: str) -> list[int]:
    """Return the agent's children that bear a name."""
    return [pid for pid in proc.children_of(agent) if _status(pid, "Name") == name]


def _parent_of(pid: int) -> int:
    return int(_status(pid, "PPid"))


def _own_mb(pid: int) -> float:
    return _field(pid, "smaps_rollup", "Private_Dirty")


def _table_mb(pid: int) -> float:
    return _field(pid, "status", "VmPTE")


def _field(pid: int, file: str, name: str) -> float:
    return int(_read(pid, file, name).split()[0]) * _KB_IN_MB


def _status(pid: int, name: str) -> str:
    return _read(pid, "status", name)


def _read(pid: int, file: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*)$", _file(pid, file), re.MULTILINE)
    return "" if found is None else found[1]


def _file(pid: int, name: str) -> str:
    try:
        return Path("/proc", str(pid), name).read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def _median(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f}"


if __name__ == "__main__":
    main()
