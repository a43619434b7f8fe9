"""What ``--nproc-per-node auto|gpu|cpu|xpu`` stands for."""

import math
import os

import pytest
from elrun.agent.hardware.devices import (
    Devices,
    count_workers,
    count_xpu_files,
    read_devices,
)
from elrun.agent.hardware.gpus import Gpu

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
    assert (expected, "") == count_workers(kind, {}, lambda _: devices)


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
            "CUDA_VISIBLE_DEVICES='-1' hides the 4 GPUs of this node: -1 is none of them",
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


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("", "it names none"),
        ("-1", "-1 is none of them"),
        ("'0,1'", '"\'0" is no number or id of a GPU'),
        ('"0,1"', "'\"0' is no number or id of a GPU"),
        ("all", "'all' is no number or id of a GPU"),
        ("none", "'none' is no number or id of a GPU"),
        ("NoDevFiles", "'NoDevFiles' is no number or id of a GPU"),
        ("0,0", "it names one twice"),
        ("4", "there is no GPU 4"),
        ("GPU-dd", "'GPU-dd' is no number or id of a GPU"),
        ("GPU-bb", "'GPU-bb' is no number or id of a GPU"),
        ("GPU-aa,GPU-aa", "it names one twice"),
        (",0", "it names none"),
    ],
)
def test_auto_says_why_it_counted_no_gpu(choice, reason):
    """One worker for each CPU is seldom what a person meant who chose GPUs."""
    devices = Devices(nvidia=GPUS, cpus=64)

    counted = count_workers("auto", {"CUDA_VISIBLE_DEVICES": choice}, lambda _: devices)

    hidden = f"CUDA_VISIBLE_DEVICES={choice!r} hides the 4 GPUs of this node: {reason}"
    assert (64, f"{hidden}; auto stands for 64 workers, one for each CPU") == counted


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"HIP_VISIBLE_DEVICES": "all"}, "HIP_VISIBLE_DEVICES"),
        ({"ROCR_VISIBLE_DEVICES": "7"}, "ROCR_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "all"}, "CUDA_VISIBLE_DEVICES"),
        ({"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}, "HIP_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": ""}, "HIP_VISIBLE_DEVICES"),
    ],
)
def test_the_variable_that_hides_amd_gpus_is_named(variables, name):
    """ROCr's, HIP's, or CUDA's where HIP's is not set."""
    devices = Devices(amd=GPUS[:1], cpus=1)

    counted = count_workers("auto", variables, lambda _: devices)

    assert 1 == counted.workers
    assert counted.notice.startswith(f"{name}={variables[name]!r} hides the GPU of this node: ")
    assert counted.notice.endswith("; auto stands for one worker")


@pytest.mark.parametrize(
    ("devices", "variables"),
    [
        (Devices(cpus=4), {"CUDA_VISIBLE_DEVICES": ""}),
        (Devices(nvidia=GPUS, cpus=4), {"CUDA_VISIBLE_DEVICES": "GPU-aa,1"}),
        (Devices(nvidia=GPUS, cpus=4), {"CUDA_VISIBLE_DEVICES": "MIG-1"}),
        (Devices(nvidia=GPUS, cpus=4), {"HIP_VISIBLE_DEVICES": "all"}),
        (Devices(xpu=2, cpus=4), {"CUDA_VISIBLE_DEVICES": "all"}),
    ],
)
def test_auto_says_nothing_where_nothing_is_hidden(devices, variables):
    """A node without GPUs, and GPUs that were counted."""
    assert "" == count_workers("auto", variables, lambda _: devices).notice


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
    """As torch counts them."""
    assert len(os.sched_getaffinity(0)) == read_devices("cpu").cpus


TWO_OF_64 = "the cgroup has the time of 2 of 64 CPUs: 2"


@pytest.mark.parametrize(
    ("kind", "quota", "workers", "notice"),
    [
        ("cpu", math.inf, 64, ""),
        ("cpu", 64.0, 64, ""),
        ("cpu", 4.5, 4, "the cgroup has the time of 4.5 of 64 CPUs: 4"),
        ("cpu", 0.5, 1, "the cgroup has the time of 0.5 of 64 CPUs: 1"),
        ("auto", 2.0, 2, f"{TWO_OF_64}; auto stands for 2 workers, one for each CPU"),
    ],
)
def test_a_quota_that_is_smaller_counts_and_is_said(kind, quota, workers, notice):
    """Unlike in torch: more workers than that would take turns."""
    devices = Devices(cpus=64, quota=quota)

    assert (workers, notice) == count_workers(kind, {}, lambda _: devices)


def test_gpus_are_counted_whatever_the_quota():
    """A worker with a GPU needs one."""
    assert (4, "") == count_workers("auto", {}, lambda _: Devices(nvidia=GPUS, cpus=64, quota=2))
