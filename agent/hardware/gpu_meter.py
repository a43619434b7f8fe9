"""What NVIDIA's GPUs do now, asked of the driver's library (NVML).

A driver that is in trouble may never answer: ask in a thread that nobody waits for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ...rendezvous.named_tuple import NamedTuple
from .drivers import load_library
from .gpus import read_nvidia, visible_nvidia

_DEVICE_FILE = "/dev/nvidiactl"
_NAME_BYTES = 96


class GpuUse(NamedTuple):
    """What a GPU does.

    Args:
        busy_percent: The share of the last moments in which a kernel ran.
        memory_bytes: What is in use of its memory, by all processes.
    """

    busy_percent: int
    memory_bytes: int


class GpuInfo(NamedTuple):
    """A GPU.

    Args:
        id: ``GPU-…``.
        name: What the vendor calls it.
        memory_bytes: How much memory it has.
    """

    id: str
    name: str
    memory_bytes: int


class _Utilization(ctypes.Structure):
    """NVML's ``nvmlUtilization_t``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    """NVML's ``nvmlMemory_t``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class GpuMeter:
    """The GPUs that workers see, in their order: that of the local ranks as a rule.

    Args:
        nvml: The library; it is shut down with ``close``.
    """

    def __init__(self, nvml: Any, ids: list[str]) -> None:
        self._nvml = nvml
        self._devices: list[ctypes.c_void_p] = []
        self.gpus: list[GpuInfo] = []
        """Those that the library knows."""
        for each in ids:
            device = ctypes.c_void_p()
            name = ctypes.create_string_buffer(_NAME_BYTES)
            memory = _Memory()
            if (
                nvml.nvmlDeviceGetHandleByUUID(each.encode(), ctypes.byref(device)) == 0
                and nvml.nvmlDeviceGetName(device, name, _NAME_BYTES) == 0
                and nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
            ):
                self._devices.append(device)
                self.gpus.append(GpuInfo(each, name.value.decode(errors="replace"), memory.total))

    def read(self) -> list[GpuUse | None]:
        """Return what each GPU does; None for one that does not say so."""
        return [self._read(device) for device in self._devices]

    def close(self) -> None:
        """Give the library back."""
        self._nvml.nvmlShutdown()

    def _read(self, device: ctypes.c_void_p) -> GpuUse | None:
        use, memory = _Utilization(), _Memory()
        if self._nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) != 0:
            return None
        if self._nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0:
            return None
        return GpuUse(use.gpu, memory.used)


def gpu_meter(
    variables: Mapping[str, str], load: Callable[[str], Any] = load_library
) -> GpuMeter | None:
    """Return what measures the GPUs that workers see; None where there are none, or no NVML.

    Args:
        variables: The environment, for ``CUDA_VISIBLE_DEVICES``.
        load: Returns a library by its name, or None.
    """
    if load is load_library and not os.path.exists(_DEVICE_FILE):
        return None
    ids = [gpu.id for gpu in visible_nvidia(read_nvidia(), variables) if gpu.id]
    nvml = load("libnvidia-ml.so.1") if ids else None
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return None
    meter = GpuMeter(nvml, ids)
    if meter.gpus:
        return meter
    meter.close()
    return None
