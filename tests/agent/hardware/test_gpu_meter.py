"""What GPUs do, as the driver's library says: in the order in which workers see them."""

import pytest
from elrun.agent.hardware import gpu_meter as module
from elrun.agent.hardware.gpu_meter import GpuInfo, GpuUse, gpu_meter
from elrun.agent.hardware.gpus import Gpu

GIB = 1 << 30
OK, FAILED = 0, 999


class Nvml:
    """NVML with two GPUs; one call may fail."""

    def __init__(self, failing=""):
        self.failing = failing
        self.is_open = False

    def __getattr__(self, name):
        def call(*args):
            if name == self.failing:
                return FAILED
            getattr(self, f"_{name}", lambda *_: None)(*args)
            return OK

        return call

    def _nvmlInit_v2(self):  # noqa: N802  NVML's names
        self.is_open = True

    def _nvmlShutdown(self):  # noqa: N802
        self.is_open = False

    def _nvmlDeviceGetHandleByUUID(self, uuid, device):  # noqa: N802
        device._obj.value = int(uuid.removeprefix(b"GPU-")) + 1

    def _nvmlDeviceGetName(self, device, name, size):  # noqa: N802
        name.value = b"H100 number %d" % (device.value - 1)

    def _nvmlDeviceGetMemoryInfo(self, device, memory):  # noqa: N802
        memory._obj.total, memory._obj.used = 80 * GIB, device.value * GIB

    def _nvmlDeviceGetUtilizationRates(self, device, use):  # noqa: N802
        use._obj.gpu = 10 * device.value


@pytest.fixture(autouse=True)
def _two_gpus(monkeypatch):
    monkeypatch.setattr(module, "read_nvidia", lambda: [Gpu("GPU-0"), Gpu("GPU-1")])


def test_gpus_stand_in_the_order_of_the_workers():
    """`CUDA_VISIBLE_DEVICES` turns it round here."""
    meter = gpu_meter({"CUDA_VISIBLE_DEVICES": "1,0"}, lambda _: Nvml())

    assert [
        GpuInfo("GPU-1", "H100 number 1", 80 * GIB),
        GpuInfo("GPU-0", "H100 number 0", 80 * GIB),
    ] == meter.gpus
    assert [GpuUse(20, 2 * GIB), GpuUse(10, GIB)] == meter.read()


@pytest.mark.parametrize("call", ["nvmlDeviceGetUtilizationRates"])
def test_a_gpu_that_does_not_say_what_it_does_is_none(call):
    """As one in MIG mode."""
    assert [None, None] == gpu_meter({}, lambda _: Nvml(call)).read()


@pytest.mark.parametrize("call", ["nvmlInit_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetName"])
def test_a_library_that_fails_is_given_back(call):
    """There is nothing to measure then."""
    nvml = Nvml(call)

    assert (None, False) == (gpu_meter({}, lambda _: nvml), nvml.is_open)


@pytest.mark.parametrize(
    ("variables", "library"), [({}, None), ({"CUDA_VISIBLE_DEVICES": ""}, Nvml())]
)
def test_without_a_library_or_a_gpu_there_is_no_meter(variables, library):
    """Most hosts of tests have neither."""
    assert gpu_meter(variables, lambda _: library) is None


def test_the_library_is_given_back_at_the_end():
    """Each holds the driver's files open."""
    nvml = Nvml()
    meter = gpu_meter({}, lambda _: nvml)
    was_open = nvml.is_open

    meter.close()

    assert (True, False) == (was_open, nvml.is_open)
