"""What ``--nproc-per-node auto|gpu|cpu|xpu`` stands for."""

import os

import pytest
from elrun.agent.gpus import Gpu
from elrun.launcher.devices import (
    Devices,
    count_workers,
    count_xpu_files,
    read_devices,
)

GPUS = [Gpu("GPU-aa11"), Gpu("GPU-bb22"), Gpu("GPU-bb33"), Gpu("GPU-cc44")]


@pytest.mark.parametrize(
    ("kind", "devices", "expected"),
    [
        ("gpu", Devices(nvidia=GPUS, cpus=64), 4),
        ("gpu", Devices(amd=GPUS[:2], cpus=64), 2),
        ("xpu", Devices(xpu=3, cpus=64), 3),
        ("cpu", Devices(nvidia=GPUS, cpus=64), 64),
        ("auto", Devices(nvidia=GPUS, xpu=1, cpus=64), 4),
        ("auto", Devices(xpu=3, cpus=64), 3),
        ("auto", Devices(cpus=64), 64),
    ],
)
def test_a_kind_is_a_number_of_workers(kind, devices, expected):
    """``auto`` takes the first there is of GPUs, Intel's GPUs, CPUs."""
    assert expected == count_workers(kind, {}, lambda _: devices)


@pytest.mark.parametrize(
    ("kind", "devices", "variables", "sentence"),
    [
        (
            "gpu",
            Devices(),
            {},
            "this node has no GPU; give a number, or auto to fall back on the CPUs",
        ),
        (
            "gpu",
            Devices(),
            {"CUDA_VISIBLE_DEVICES": ""},
            "this node has no GPU; give a number, or auto to fall back on the CPUs",
        ),
        (
            "gpu",
            Devices(nvidia=GPUS),
            {"CUDA_VISIBLE_DEVICES": "-1"},
            "CUDA_VISIBLE_DEVICES='-1' hides the 4 GPU(s) of this node",
        ),
        (
            "xpu",
            Devices(),
            {},
            "this node has no Intel GPU; give a number, or auto to fall back on the CPUs",
        ),
    ],
)
def test_no_device_is_an_error_that_says_why(kind, devices, variables, sentence):
    """None there, or all hidden."""
    with pytest.raises(ValueError) as caught:
        count_workers(kind, variables, lambda _: devices)

    assert sentence == str(caught.value)


def drm_card(root, number, driver, slot):
    folder = root / f"sys/class/drm/renderD{number}/device"
    folder.mkdir(parents=True)
    (folder / "uevent").write_text(f"DRIVER={driver}\nPCI_SLOT_NAME={slot}\n")


def test_the_kernel_s_cards_tell_of_intel_gpus(tmp_path):
    """Not of the one inside the processor, nor of other makers'."""
    drm_card(tmp_path, 128, "i915", "0000:00:02.0")
    drm_card(tmp_path, 129, "xe", "0000:4d:00.0")
    drm_card(tmp_path, 130, "amdgpu", "0000:5d:00.0")

    assert 1 == count_xpu_files(tmp_path)


def test_a_machine_without_devices_has_none(tmp_path):
    """Missing files are no error."""
    assert 0 == count_xpu_files(tmp_path)


def test_cpus_are_those_that_this_process_may_use():
    """As torch counts them; a quota is not looked at."""
    assert len(os.sched_getaffinity(0)) == read_devices("cpu").cpus
