"""Asks the GPU drivers' own libraries what there is, through ctypes."""

from __future__ import annotations

import ctypes

_UUID_BYTES = 96
_ZE_INIT_GPU_ONLY = 1


def nvml_ids() -> list[str] | None:
    """Return the ids of the NVIDIA GPUs by ordinal, or None where NVML can't say."""
    nvml = _library("libnvidia-ml.so.1")
    try:
        if nvml is None or nvml.nvmlInit_v2() != 0:
            return None
    except AttributeError:  # older than the driver's interface of 2012
        return None
    try:
        return _nvml_ids(nvml)
    finally:
        nvml.nvmlShutdown()


def _nvml_ids(nvml: ctypes.CDLL) -> list[str] | None:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    ids = []
    for ordinal in range(count.value):
        device = ctypes.c_void_p()
        name = ctypes.create_string_buffer(_UUID_BYTES)
        if nvml.nvmlDeviceGetHandleByIndex_v2(ordinal, ctypes.byref(device)) != 0:
            return None
        if nvml.nvmlDeviceGetUUID(device, name, _UUID_BYTES) != 0:
            return None
        ids.append(name.value.decode("ascii", errors="replace"))
    return ids


def level_zero_count() -> int | None:
    """Return the number of Intel GPUs, tiles counted as Level Zero shows them, or None."""
    zero = _library("libze_loader.so.1")
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


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
