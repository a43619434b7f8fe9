"""What ``--nproc-per-node auto|gpu|cpu|xpu`` stands for."""

import os

import pytest
from elrun.launcher.devices import (
    Devices,
    count_amd,
    count_nvidia,
    count_workers,
    count_xpu_files,
    read_amd,
    read_devices,
    read_nvidia_files,
)

GPUS = ["GPU-aa11", "GPU-bb22", "GPU-bb33", "GPU-cc44"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("3,0", 2),
        (" 1 , 2 ", 2),
        ("0,-1,2", 1),
        ("0,9,1", 1),
        ("9", 0),
        ("0,0", 0),
        ("0,9,9", 0),
        ("1gpu,2ampere", 2),
        ("NoDevFiles", 0),
        ("+2", 1),
        ("GPU-aa11", 1),
        ("GPU-a,GPU-cc44", 2),
        ("GPU-bb", 0),
        ("GPU-aa,GPU-zz,GPU-cc", 1),
        ("GPU-aa,GPU-aa11", 0),
        ("GPU-aa,1", 1),
        ("MIG-1234", 1),
        ("MIG-1234,MIG-5678", 1),
        ("9" * 5000, 0),
    ],
)
def test_cuda_visible_devices_is_read_as_the_driver_does(choice, expected):
    """As ``torch.cuda.device_count()``: ordinals or beginnings of ids, up to the first bad one."""
    variables = {} if choice is None else {"CUDA_VISIBLE_DEVICES": choice}

    assert expected == count_nvidia(GPUS, variables)


def test_ids_that_are_not_known_are_believed():
    """Where only the kernel's files tell of GPUs, an id can't be looked up."""
    assert 1 == count_nvidia(["", ""], {"CUDA_VISIBLE_DEVICES": "GPU-aa11"})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 4),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"HIP_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"HIP_VISIBLE_DEVICES": "0,1", "CUDA_VISIBLE_DEVICES": "3"}, 2),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, 1),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2"}, 0),
        ({"ROCR_VISIBLE_DEVICES": "GPU-cc44"}, 1),
        ({"HIP_VISIBLE_DEVICES": ""}, 0),
    ],
)
def test_hip_chooses_among_what_rocr_leaves(variables, expected):
    """HIP's ordinals count from the devices that ROCr shows."""
    assert expected == count_amd(GPUS, variables)


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


def nvidia_node(root, minor):
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / f"nvidia{minor}").touch()


def nvidia_information(root, bus, uuid):
    folder = root / "proc/driver/nvidia/gpus" / bus
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t\t H200\nGPU UUID: \t {uuid}\n")


def test_the_kernel_s_files_tell_of_nvidia_gpus(tmp_path):
    """Where its library is missing."""
    for minor in (0, 1):
        nvidia_node(tmp_path, minor)
        nvidia_information(tmp_path, f"0000:0{minor}:00.0", f"GPU-{minor}")
    (tmp_path / "dev" / "nvidiactl").touch()

    assert ["GPU-0", "GPU-1"] == read_nvidia_files(tmp_path)


def test_a_container_has_the_gpus_whose_devices_it_has(tmp_path):
    """The driver's folder may tell of the whole host's; their ids are then not known."""
    nvidia_node(tmp_path, 1)
    for minor in (0, 1):
        nvidia_information(tmp_path, f"0000:0{minor}:00.0", f"GPU-{minor}")

    assert [""] == read_nvidia_files(tmp_path)


def kfd_node(root, number, properties):
    folder = root / "sys/class/kfd/kfd/topology/nodes" / str(number)
    folder.mkdir(parents=True)
    (folder / "properties").write_text(properties)


def test_the_kernel_s_topology_tells_of_amd_gpus(tmp_path):
    """A node with compute units is a GPU, one without is a CPU."""
    kfd_node(tmp_path, 0, "cpu_cores_count 64\nsimd_count 0\n")
    kfd_node(tmp_path, 10, "simd_count 416\nunique_id 10\n")
    kfd_node(tmp_path, 2, "simd_count 416\nunique_id 255\n")

    assert ["GPU-00000000000000ff", "GPU-000000000000000a"] == read_amd(tmp_path)


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
    assert ([], [], 0) == (
        read_nvidia_files(tmp_path),
        read_amd(tmp_path),
        count_xpu_files(tmp_path),
    )


def test_cpus_are_those_that_this_process_may_use():
    """As torch counts them; a quota is not looked at."""
    assert len(os.sched_getaffinity(0)) == read_devices("cpu").cpus
