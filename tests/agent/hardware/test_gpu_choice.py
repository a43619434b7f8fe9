"""``--gpus``: which GPUs are meant, and which variable lets workers see only these."""

import pytest
from elrun.agent.hardware.devices import Devices
from elrun.agent.hardware.gpu_choice import check_choice, choice_of, variables_for
from elrun.agent.hardware.gpus import Gpu

FOUR = [Gpu(f"GPU-{name}") for name in ("aa1", "aa2", "bb3", "cc4")]
NVIDIA, AMD, INTEL = Devices(nvidia=FOUR), Devices(amd=FOUR), Devices(xpu=4)
CUDA, HIP, ROCR, ZE = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)


@pytest.mark.parametrize(
    ("entries", "devices", "variables", "expected"),
    [
        ("2,0", NVIDIA, {}, {CUDA: "2,0"}),
        ("GPU-bb3,GPU-aa1", NVIDIA, {}, {CUDA: "2,0"}),
        ("GPU-b,3", NVIDIA, {}, {CUDA: "2,3"}),
        ("0,1", NVIDIA, {CUDA: "3,1"}, {CUDA: "3,1"}),
        ("1", NVIDIA, {CUDA: "3,1"}, {CUDA: "1"}),
        ("1", NVIDIA, {CUDA: "GPU-cc4,GPU-aa1"}, {CUDA: "GPU-aa1"}),
        ("GPU-aa1", NVIDIA, {CUDA: "3,0"}, {CUDA: "0"}),
        ("MIG-1/2/0", NVIDIA, {}, {CUDA: "MIG-1/2/0"}),
        ("MIG-a,MIG-b", NVIDIA, {CUDA: "0"}, {CUDA: "MIG-a,MIG-b"}),
        ("1,3", AMD, {}, {HIP: "1,3"}),
        ("GPU-cc4", AMD, {}, {HIP: "3"}),
        ("1", AMD, {ROCR: "2,3"}, {HIP: "1"}),
        ("1", AMD, {HIP: "2,0"}, {HIP: "0"}),
        ("1", AMD, {CUDA: "2,0"}, {CUDA: "0"}),
        ("1,3", INTEL, {}, {ZE: "1,3"}),
        ("1", Devices(xpu=2), {ZE: "2,3"}, {ZE: "3"}),
    ],
)
def test_gpus_are_chosen_by_a_variable(entries, devices, variables, expected):
    """Of those that are seen: what was hidden before stays hidden."""
    assert expected == variables_for(entries.split(","), devices, variables)


@pytest.mark.parametrize(
    ("entries", "devices", "variables", "sentence"),
    [
        ("0", Devices(), {}, "this node has no GPU that elrun sees"),
        ("4", NVIDIA, {}, "there is no GPU 4 here: elrun sees GPUs 0 to 3"),
        ("1", Devices(nvidia=FOUR[:1]), {}, "there is no GPU 1 here: elrun sees GPU 0 only"),
        ("1", NVIDIA, {CUDA: "3"}, "there is no GPU 1 here: elrun sees GPU 0 only"),
        ("0", NVIDIA, {CUDA: "-1"}, "all GPUs of this node are hidden"),
        ("GPU-x", NVIDIA, {}, "GPU-x: there is no such GPU here"),
        ("GPU-aa1", NVIDIA, {CUDA: "2,3"}, "GPU-aa1: there is no such GPU here"),
        ("GPU-aa", NVIDIA, {}, "GPU-aa: several GPUs have ids that begin so"),
        ("0,GPU-aa1", NVIDIA, {}, "GPU 0 is named twice"),
        ("MIG-a,0", NVIDIA, {}, "0 is no MIG instance"),
        ("0,MIG-a", NVIDIA, {}, "MIG-a is a MIG instance"),
        ("MIG-a", AMD, {}, "MIG-a is a MIG instance"),
        ("GPU-aa1", INTEL, {}, "GPU-aa1: there is no such GPU here"),
    ],
)
def test_a_gpu_that_is_not_there_is_named(entries, devices, variables, sentence):
    """Nothing runs on another one instead."""
    with pytest.raises(ValueError, match="^" + sentence):
        variables_for(entries.split(","), devices, variables)


@pytest.mark.parametrize(
    ("text", "node", "expected"),
    [
        ("0,2", "n1", ["0", "2"]),
        (" 0 , GPU-a ", "n1", ["0", "GPU-a"]),
        ("n1:0,1;n2:2,3", "n2", ["2", "3"]),
        ("n1:0,1; n2:2,3", "n2.cluster", ["2", "3"]),
        ("n2.cluster:1", "n2.cluster", ["1"]),
        ("n1:MIG-1/2/0", "n1", ["MIG-1/2/0"]),
    ],
)
def test_a_list_may_be_a_node_s(text, node, expected):
    """By its whole name, or without its domain."""
    check_choice(text)

    assert expected == choice_of(text, node)


def test_a_node_without_a_list_is_named():
    """It does not take all GPUs instead."""
    with pytest.raises(ValueError, match="no list for this node, n3; it names n1, n2"):
        choice_of("n1:0;n2:0", "n3")


@pytest.mark.parametrize(
    "text", ["-1", "a", "0,,x", ",", "n1:;n2:0", "n1:0;n1:1", "0;1", "GPU-", "0x1", ":0", "1.5"]
)
def test_what_is_no_list_is_refused(text):
    """With what would be right."""
    with pytest.raises(ValueError, match="give numbers, ids|stands twice"):
        check_choice(text)


def test_a_gpu_that_stands_twice_is_refused():
    """CUDA would see none at all."""
    with pytest.raises(ValueError, match="1 stands twice for n1; name each GPU once"):
        check_choice("n1:1,2,1;n2:0")
