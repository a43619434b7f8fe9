"""Which GPUs a worker sees, and where they are."""

import pytest
from elrun.agent.hardware.gpus import Gpu, read_amd, read_nvidia_files, visible_amd, visible_nvidia

GPUS = [Gpu("GPU-aa11"), Gpu("GPU-bb22"), Gpu("GPU-bb33"), Gpu("GPU-cc44")]


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

    assert expected == len(visible_nvidia(GPUS, variables))


def test_ids_that_are_not_known_are_believed():
    """Where only the kernel's files tell of GPUs, an id can't be looked up."""
    assert 1 == len(visible_nvidia([Gpu(), Gpu()], {"CUDA_VISIBLE_DEVICES": "GPU-aa11"}))


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
    assert expected == len(visible_amd(GPUS, variables))


def nvidia_node(root, minor):
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / f"nvidia{minor}").touch()


def nvidia_information(root, bus, uuid, minor):
    folder = root / "proc/driver/nvidia/gpus" / bus
    folder.mkdir(parents=True)
    text = f"Model: \t\t H200\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
    (folder / "information").write_text(text)


def test_the_kernel_s_files_tell_of_nvidia_gpus(tmp_path):
    """Where its library is missing; they are in the order of the bus, not of their devices."""
    for minor, bus in ((1, "0000:01:00.0"), (0, "0000:02:00.0")):
        nvidia_node(tmp_path, minor)
        nvidia_information(tmp_path, bus, f"GPU-{minor}", minor)
    (tmp_path / "dev" / "nvidiactl").touch()

    expected = [Gpu("GPU-1", "0000:01:00.0"), Gpu("GPU-0", "0000:02:00.0")]
    assert expected == read_nvidia_files(tmp_path)


def test_a_container_has_the_gpus_whose_devices_it_has(tmp_path):
    """The driver's folder may tell of the whole host's."""
    nvidia_node(tmp_path, 1)
    for minor in (0, 1):
        nvidia_information(tmp_path, f"0000:0{minor}:00.0", f"GPU-{minor}", minor)

    assert [Gpu("GPU-1", "0000:01:00.0")] == read_nvidia_files(tmp_path)


def test_gpus_that_the_driver_s_folder_leaves_out_are_counted(tmp_path):
    """Which is which is not known then."""
    for minor in (0, 1):
        nvidia_node(tmp_path, minor)
    nvidia_information(tmp_path, "0000:01:00.0", "GPU-1", 1)

    assert [Gpu(), Gpu()] == read_nvidia_files(tmp_path)


def kfd_node(root, number, properties):
    folder = root / "sys/class/kfd/kfd/topology/nodes" / str(number)
    folder.mkdir(parents=True)
    (folder / "properties").write_text(properties)


def test_the_kernel_s_topology_tells_of_amd_gpus(tmp_path):
    """A node with compute units is a GPU, one without is a CPU; old kernels tell no place."""
    kfd_node(tmp_path, 0, "cpu_cores_count 64\nsimd_count 0\n")
    kfd_node(tmp_path, 10, "simd_count 416\nunique_id 10\n")
    kfd_node(tmp_path, 2, "simd_count 416\nlocation_id 50432\ndomain 1\nunique_id 255\n")

    expected = [Gpu("GPU-00000000000000ff", "0001:c5:00.0"), Gpu("GPU-000000000000000a")]
    assert expected == read_amd(tmp_path)


def test_a_machine_without_gpus_has_none(tmp_path):
    """Missing files are no error."""
    assert ([], []) == (read_nvidia_files(tmp_path), read_amd(tmp_path))
