"""Reads the GPUs of this host from the drivers' own libraries, by ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

from .gpus import Gpu

_UUID_BYTES = 96
_ZE_INIT_GPU_ONLY = 1


def load_library(name: str) -> ctypes.CDLL | None:
    """Return a shared library; None if the system has none of that name."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


class _PciInfo(ctypes.Structure):
    """NVML's ``nvmlPciInfo_t``, third version."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("short_address", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("device_id", ctypes.c_uint),
        ("subsystem_id", ctypes.c_uint),
        ("address", ctypes.c_char * 32),
    ]


def nvml_gpus(load: Callable[[str], Any] = load_library) -> list[Gpu] | None:
    """Return the NVIDIA GPUs by ordinal; None if NVML is missing or fails.

    Args:
        load: Returns a library by its name, or None.
    """
    nvml = load("libnvidia-ml.so.1")
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return None
    try:
        return _nvml_gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def _nvml_gpus(nvml: Any) -> list[Gpu] | None:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    gpus = []
    for ordinal in range(count.value):
        device = ctypes.c_void_p()
        name = ctypes.create_string_buffer(_UUID_BYTES)
        if nvml.nvmlDeviceGetHandleByIndex_v2(ordinal, ctypes.byref(device)) != 0:
            return None
        if nvml.nvmlDeviceGetUUID(device, name, _UUID_BYTES) != 0:
            return None
        gpus.append(Gpu(name.value.decode("ascii", errors="replace"), _nvml_address(nvml, device)))
    return gpus


def _nvml_address(nvml: Any, device: ctypes.c_void_p) -> str:
    pci = _PciInfo()
    if nvml.nvmlDeviceGetPciInfo_v3(device, ctypes.byref(pci)) != 0:
        return ""
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def level_zero_count(load: Callable[[str], Any] = load_library) -> int | None:
    """Return the number of Intel's devices: GPUs, or tiles where the driver shows tiles; or None.

    Args:
        load: Returns a library by its name, or None.
    """
    zero = load("libze_loader.so.1")
    if zero is None or zero.zeInit(_ZE_INIT_GPU_ONLY) != 0:
        return None
    drivers = ctypes.c_uint32()
    if zero.zeDriverGet(ctypes.byref(drivers), None) != 0:
        return None
    handles = (ctypes.c_void_p * drivers.value)()
    if zero.zeDriverGet(ctypes.byref(drivers), handles) != 0:
        return None
    total = 0
    for driver in handles:
        devices = ctypes.c_uint32()
        if zero.zeDeviceGet(ctypes.c_void_p(driver), ctypes.byref(devices), None) != 0:
            return None
        total += devices.value
    return total
