"""What the GPU drivers' libraries are asked, and what is made of their answers."""

import pytest
from elrun.agent.hardware.drivers import level_zero_count, load_library, nvml_gpus
from elrun.agent.hardware.gpus import Gpu

OK, FAILED = 0, 1


class Nvml:
    """NVML with some GPUs; one call may fail."""

    def __init__(self, *ids, failing=""):
        self.ids = ids
        self.failing = failing
        self.is_open = False

    def result(self, name):
        return FAILED if name == self.failing else OK

    def nvmlInit_v2(self):  # noqa: N802  NVML's names
        self.is_open = True
        return self.result("init")

    def nvmlShutdown(self):  # noqa: N802
        self.is_open = False
        return OK

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = len(self.ids)
        return self.result("count")

    def nvmlDeviceGetHandleByIndex_v2(self, ordinal, device):  # noqa: N802
        device._obj.value = ordinal + 1
        return self.result("handle")

    def nvmlDeviceGetUUID(self, device, name, _size):  # noqa: N802
        name.value = self.ids[device.value - 1].encode()
        return self.result("uuid")

    def nvmlDeviceGetPciInfo_v3(self, device, pci):  # noqa: N802
        pci._obj.domain, pci._obj.bus, pci._obj.device = 0x10000, 0x3B, device.value
        return self.result("pci")


class LevelZero:
    """Level Zero with a number of GPUs for each driver; one call may fail."""

    def __init__(self, *counts, failing=""):
        self.counts = counts
        self.failing = failing

    def result(self, name):
        return FAILED if name == self.failing else OK

    def zeInit(self, _flags):  # noqa: N802  Level Zero's names
        return self.result("init")

    def zeDriverGet(self, count, handles):  # noqa: N802
        count._obj.value = len(self.counts)
        for number in range(len(self.counts) if handles else 0):
            handles[number] = number + 1
        return self.result("drivers")

    def zeDeviceGet(self, driver, count, _devices):  # noqa: N802
        count._obj.value = self.counts[driver.value - 1]
        return self.result("devices")


def test_nvml_tells_the_gpus_in_order():
    """Ids are what ``CUDA_VISIBLE_DEVICES`` may name, addresses are written as in ``/sys``."""
    nvml = Nvml("GPU-1", "GPU-2")

    gpus = nvml_gpus({"libnvidia-ml.so.1": nvml}.get)

    assert [Gpu("GPU-1", "10000:3b:01.0"), Gpu("GPU-2", "10000:3b:02.0")] == gpus
    assert not nvml.is_open


def test_nvml_may_not_tell_an_address():
    """The GPU can be counted without."""
    assert [Gpu("GPU-1")] == nvml_gpus(lambda _: Nvml("GPU-1", failing="pci"))


@pytest.mark.parametrize("failing", ["init", "count", "handle", "uuid"])
def test_nvml_that_fails_says_nothing(failing):
    """Then the kernel's files are asked."""
    assert nvml_gpus(lambda _: Nvml("GPU-1", failing=failing)) is None


def test_level_zero_adds_its_drivers_gpus_up():
    """A node may have several drivers."""
    assert 3 == level_zero_count({"libze_loader.so.1": LevelZero(1, 2)}.get)


@pytest.mark.parametrize("failing", ["init", "drivers", "devices"])
def test_level_zero_that_fails_says_nothing(failing):
    """Then the kernel's files are asked."""
    assert level_zero_count(lambda _: LevelZero(1, failing=failing)) is None


@pytest.mark.parametrize("count", [nvml_gpus, level_zero_count])
def test_a_library_that_is_not_there_says_nothing(count):
    """Most nodes have one maker's drivers only."""
    assert count(lambda _: None) is None


def test_a_missing_library_is_none():
    """And no error."""
    assert load_library("libelrun-no-such-library.so.1") is None
