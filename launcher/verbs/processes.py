"""What worker processes of this host use, as the kernel tells the command's own process."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ...rendezvous.threads import call_in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...agent.hardware.gpu_meter import GpuMeter, GpuUse

_DRIVER_S = 2.0
_THREAD = "elrun-gpus"
_OF_GPUS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_RANK")
_BAD_STATES = {
    b"D": "disk-sleep",
    b"T": "stopped",
    b"t": "tracing-stop",
    b"Z": "zombie",
    b"X": "dead",
    b"K": "wake-kill",
}
"""The kernel's letters for states in which a process can't go on, and the words for them."""

# In /proc/PID/stat after the command's name, see proc(5).
_STATE, _UTIME, _STIME, _STARTED = 0, 11, 12, 19
_RESIDENT = 1  # in /proc/PID/statm
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What one process uses.

    Args:
        state: ``running``, or the kernel's word for a state in which it can't go on.
        cpu_percent: Of one CPU: since the last look, or since its start at the first one.
        memory_bytes: What it has in memory.
    """

    state: str
    cpu_percent: float
    memory_bytes: int


class Usages:
    """Looks at processes, and remembers the last look at each."""

    def __init__(self, gpus: Gpus | None = None) -> None:
        self.gpus = gpus or Gpus()
        self._last: dict[tuple[int, int], tuple[float, float]] = {}

    def of(self, pid: int) -> Usage | None:
        """Return what a process uses; None: it has ended, or can't be seen."""
        try:
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            # The memory in stat leaves out what each CPU has not handed over yet.
            pages = _read(pid, "statm").split()
        except OSError:
            return None
        if len(fields) <= _STARTED or len(pages) <= _RESIDENT:
            return None
        started = int(fields[_STARTED])
        used_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)  # which the start is counted in
        before_s, at_s = self._last.get((pid, started), (0.0, started / _TICKS_PER_S))
        self._last[pid, started] = used_s, now_s
        percent = 100 * (used_s - before_s) / max(now_s - at_s, 0.01)
        state = _BAD_STATES.get(fields[_STATE], "running")
        return Usage(state, round(percent, 1), int(pages[_RESIDENT]) * _PAGE_BYTES)


class Gpus:
    """Looks at the GPUs of workers; a driver in trouble is asked no more.

    Args:
        meter_of: Returns what measures the GPUs that a process with such variables sees.
    """

    def __init__(
        self, meter_of: Callable[[Mapping[str, str]], GpuMeter | None] | None = None
    ) -> None:
        self._meter_of = meter_of or _meter_of
        self._meters: dict[tuple[str | None, ...], GpuMeter | None] = {}
        self._is_given_up = meter_of is None and not _has_driver()

    def of(self, pid: int) -> GpuUse | None:
        """Return what the GPU of a worker does; None: it has none, or nothing is known of it."""
        if self._is_given_up:
            return None
        try:
            return call_in_time(lambda: self._look(pid), _DRIVER_S, _THREAD)
        except OSError:  # no answer in time, no thread, or a driver in trouble
            self._is_given_up = True
            return None

    def _look(self, pid: int) -> GpuUse | None:
        try:
            variables = _variables_of(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended just now
            return None
        key = tuple(map(variables.get, _OF_GPUS[:2]))
        if key not in self._meters:
            self._meters[key] = self._meter_of(variables)
        meter = self._meters[key]
        uses = [] if meter is None else meter.read()
        if len(uses) == 1:
            return uses[0]
        with contextlib.suppress(ValueError, IndexError):
            return uses[int(variables.get("LOCAL_RANK", ""))]
        return None


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()


def _has_driver() -> bool:
    from ...agent.monitoring.samples import NVIDIA_DRIVER

    return os.path.exists(NVIDIA_DRIVER)


def _meter_of(variables: Mapping[str, str]) -> GpuMeter | None:
    from ...agent.hardware.gpu_meter import gpu_meter  # few hosts, and ctypes

    return gpu_meter(variables)


def _variables_of(pid: int) -> dict[str, str]:
    """Return the variables of a process that matter for its GPU."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (each.decode(errors="replace").partition("=") for each in file.read().split(b"\0"))
        return {name: value for name, _, value in pairs if name in _OF_GPUS}
